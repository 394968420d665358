"""Tests of Go packages on the bare machine: each package's test program is booted, and judged by what arrived."""
