"""Images that are wrong on purpose: what they have otherwise than the board wants it.

No setting leads here. They are built to be looked at: `doit verify --before`.
"""

from __future__ import annotations

from typing import NamedTuple


class Variant(NamedTuple):
    """How an image departs from the one shipped; by default it does not.

    `zeroed` is the memory of the linker script that .bss is placed in, "RAM" or
    "FLASH"; `flash_writable` has the page tables let the kernel write to flash, so
    that a write there is lost in silence and does not fault.
    """

    zeroed: str = "RAM"
    flash_writable: bool = False


SHIPPED = Variant()
