"""What went wrong, told from outside: a machine that was stopped, explained without trusting the guest."""
