"""The Go toolchain, the cross build, and what the runtime of each release expects."""
