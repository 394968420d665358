"""The function that the barrier policy `user` gives batches to: whether it takes what it is given.

Our handler calls it with a slice of entries in x0, x1 and x2, and expects nothing: templates/barrier-user.s.j2.
"""

from __future__ import annotations

from buildsys.errors import UserError
from buildsys.formats.elf import Elf
from buildsys.go.agreement import compare
from buildsys.go.described import described
from buildsys.go.packages import sources
from buildsys.go.signatures import Parameter, Signature, Told
from buildsys.go.types import INTEGER, POINTER, WORD, Piece, Type

ENTRY = 10 * WORD  # bytes: the address behind the call, how many slots, eight slots
_BATCH = Type(
    "[]Entry",
    3 * WORD,
    (Piece(0, WORD, POINTER), Piece(WORD, WORD, INTEGER), Piece(2 * WORD, WORD, INTEGER)),
    element=ENTRY,
)
_EXPECTED = Signature("what batches are given to", Told.GO, (Parameter("batch", _BATCH),))
_HINT = (
    "let it take one slice, and give nothing: func(batch []Entry), an Entry being "
    "struct { Site, Count uintptr; Slots [8]uintptr }"
)


def refuse_other(elf: Elf, function: str, package: str) -> list[str]:
    """Raise UserError if the function called `function` takes or gives something else; else remarks.

    `package` is the folder of the kernel package, by which the message names a source file.
    """
    address = elf.symbols.addresses(function).get(function)
    if address is None:
        return []
    found = described(elf, (address,))
    taker = found.signatures.get(address)
    if taker is None or taker.told is not Told.GO:
        why = found.unreadable or "it is not Go's"
        return [f"what {function} takes is not known, that it is a batch is for you to see to: {why}"]
    if not taker.complete and taker.argument_bytes == _BATCH.size:
        return []  # parameters without a name, which Go up to 1.21 does not tell
    mismatches = list(compare(_EXPECTED, taker).mismatches)
    elements = [each.type.element for each in taker.parameters]
    if not mismatches and elements not in ([ENTRY], [None]):
        mismatches = [f"an entry is of {ENTRY} bytes, not {elements[0]}"]
    if mismatches:
        place = f" ({sources(elf, package)(taker.place)})" if taker.place else ""
        raise UserError(
            f"`barrier-function`: {function}{place} takes {taker}, and is given batches: {'; '.join(mismatches)}", _HINT
        )
    return []
