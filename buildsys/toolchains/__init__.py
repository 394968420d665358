"""Assemblers and linkers: one small module per toolchain, all answering the same questions."""
