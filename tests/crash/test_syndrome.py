"""What ESR_EL1 says in words: against values written down from the manual, and for every value there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.formats.syndrome import CLASSES, Syndrome, fault

# Arm ARM D17.2.37: classes and the ISS of aborts, put together by hand.
KNOWN = {
    0x96000006: "data abort: translation fault, level 2, read",
    0x96000046: "data abort: translation fault, level 2, write",
    0x9600004F: "data abort: permission fault, level 3, write",
    0x96000010: "data abort: external abort, read",
    0x96000021: "data abort: alignment fault, read",
    0x86000005: "instruction abort: translation fault, level 1, fetch",
    0x8600000E: "instruction abort: permission fault, level 2, fetch",
    0x8A000000: "misaligned pc",
    0x9A000000: "misaligned sp",
    0xF200002A: "brk #0x2a",
    0x56000000: "svc #0x0",
    0x1FE00000: "floating point is not enabled (CPACR_EL1.FPEN)",
    0x02000000: "undefined instruction",
    0xBE000011: "SError interrupt",
    0x92000004: "data abort: translation fault, level 0, read",
    0x96000015: "data abort: external abort on a table walk, level 1, read",
    0x96000030: "data abort: TLB conflict, read",
}


@pytest.mark.parametrize(("value", "words"), KNOWN.items(), ids=[hex(value) for value in KNOWN])
def test_a_syndrome_is_said_as_the_manual_has_it(value: int, words: str) -> None:
    assert str(Syndrome(value)) == words


@given(st.integers(0, (1 << 32) - 1))
def test_every_syndrome_has_words(value: int) -> None:
    told = Syndrome(value)
    assert str(told)
    assert (told.kind in CLASSES) == (not str(told).startswith("exception of class"))
    assert told.is_write <= told.is_abort


def test_every_fault_status_of_a_level_names_it() -> None:
    for status in range(0x10):
        assert fault(status).endswith(f", level {status & 3}")
    # The maintenance of a cache has WnR set and writes nothing.
    assert not Syndrome(0x96000146).is_write
