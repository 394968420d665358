"""How many bytes a function's arguments take: as the runtime's own table says, and as its signature makes it.

Go's linker writes, for tracebacks, a row for every function, in assembly too:
`args` in `runtime._func` (src/runtime/runtime2.go) is the size of its arguments'
frame. For assembly that is what it says of itself, arguments and results (ABI0,
checked against its declaration by `go vet`). For a function in Go it is the place
of what is passed on the stack and room to save what is passed in registers
(src/cmd/compile/abi-internal.md). It owes nothing to DWARF.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from buildsys.formats.elf import Elf
from buildsys.go.signatures import Signature
from buildsys.go.types import FLOAT, Type

TABLE, TEXT = "runtime.pclntab", "runtime.text"
_MAGIC = (0xFFFF_FFF0, 0xFFFF_FFF1)  # Go 1.18, and Go 1.20 and newer: internal/abi/symtab.go
_COUNT, _FUNCTIONS = 8, 64  # nfunc and pclnOffset in runtime.pcHeader
_ARGS, _UNKNOWN = 8, 1 << 31  # args in runtime._func; cmd/internal/objabi, ArgsSizeUnknown
_REGISTERS = 16  # R0 to R15, and F0 to F15: internal/abi/abi_arm64.go
_WORD = 8


def argument_bytes(elf: Elf, addresses: Iterable[int]) -> dict[int, int]:
    """What the table says of the functions that begin at `addresses`; those it does not say are left out."""
    found = elf.symbols.addresses(TABLE, TEXT)
    table, text = found.get(TABLE), found.get(TEXT)
    if table is None or text is None or elf.word(table) not in _MAGIC:
        return {}
    count, functions = elf.word(table + _COUNT, 8) or 0, elf.word(table + _FUNCTIONS, 8) or 0
    at = elf.file_offset(table + functions)
    if at is None or at + 8 * count > len(elf.data):
        return {}
    rows = memoryview(elf.data)[at : at + 8 * count].cast("I")  # pairs: where the code begins, where its row is
    sizes = {}
    for address in addresses:
        row = bisect_left(range(count), address - text, key=lambda at: rows[2 * at])
        if row < count and rows[2 * row] == address - text:
            size = elf.word(table + functions + rows[2 * row + 1] + _ARGS)
            if size is not None and size != _UNKNOWN:
                sizes[address] = size
    return sizes


def on_stack(signature: Signature) -> int:
    """The bytes of arguments and results as ABI0 has them: one behind the other, results from a whole word on."""
    at = _behind(0, [each.type for each in signature.parameters])
    return _behind(_aligned(at, _WORD), [each.type for each in signature.results]) if signature.results else at


def in_registers(signature: Signature) -> int:
    """The bytes ABIInternal keeps for a call: arguments and results on the stack, and room to save the others."""
    taken = [each.type for each in signature.parameters]
    if signature.generic:  # passed behind the receiver, but a word is a word
        taken.append(Type("dictionary", _WORD, (), _WORD))
    stacked, saved = _assigned(taken)
    results, _ = _assigned([each.type for each in signature.results])
    at = _behind(0, stacked)
    at = _aligned(_behind(_aligned(at, _WORD), results), _WORD)
    return _aligned(_behind(at, saved), _WORD)


def _assigned(types: Sequence[Type]) -> tuple[list[Type], list[Type]]:
    """The values passed on the stack, and those passed in registers."""
    integers = floats = 0
    stacked, registered = [], []
    for each in types:
        float_pieces = sum(piece.kind == FLOAT for piece in each.pieces)
        others = max(len(each.pieces), each.name == "dictionary") - float_pieces
        if each.is_in_memory or integers + others > _REGISTERS or floats + float_pieces > _REGISTERS:
            stacked.append(each)
        else:
            integers, floats = integers + others, floats + float_pieces
            registered.append(each)
    return stacked, registered


def _behind(at: int, types: Iterable[Type]) -> int:
    """Where the next value goes after those of `types`."""
    for each in types:
        at = _aligned(at, each.alignment) + each.size
    return at


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment
