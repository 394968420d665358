"""Numbers of bytes as people read them."""

from __future__ import annotations


def amount(count: int) -> str:
    """A number of bytes as a reader says it: exact, or with one decimal place."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
