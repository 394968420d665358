"""One kernel by every Go, toolchain and emulator: a row is a Go and a toolchain, a cell a row on an emulator."""
