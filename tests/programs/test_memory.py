"""What a program may not do to memory is a fault: each of these tests fails where the page is not protected."""

from __future__ import annotations

import pytest

from tests.programs.conftest import Boot, text_of

UNMAPPED, FORBIDDEN = 1, 2  # SEGV_MAPERR, SEGV_ACCERR: include/uapi/asm-generic/siginfo.h


@pytest.mark.parametrize(
    ("part", "what", "code"),
    [
        ("zero", "page 0 is not there", UNMAPPED),
        ("wild", "code cannot be written", FORBIDDEN),
        ("constant", "constants cannot be written", FORBIDDEN),
        ("data", "data cannot be executed", FORBIDDEN),
        ("guard", "below the first stack nothing can be", FORBIDDEN),
    ],
)
def test_a_page_is_protected(on_embedded: Boot, part: str, what: str, code: int) -> None:
    outcome = on_embedded(part)
    text = text_of(outcome)
    assert f"[signal SIGSEGV: segmentation violation code={code:#x} addr=0x" in text, what
    assert f"done {part}" not in text
    assert outcome.exit_code == 2
