"""What the barrier policies keep in a guest's memory, and how it is read when the run has ended."""
