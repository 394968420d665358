"""What verify asserts: one small module per claim, all of one shape."""
