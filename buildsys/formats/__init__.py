"""ELF images and A64 branch words. Knows nothing of Go or of building."""
