"""The steps of the chain: each a function from files and parameters to files."""
