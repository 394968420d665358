"""How deep stacks get: what each function takes, told from its code, and what chains of calls add up to."""
