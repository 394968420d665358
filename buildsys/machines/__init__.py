"""QEMU and the embedded emulator: run an image on a board, return an outcome."""
