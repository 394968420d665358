"""What others say an A64 instruction word is: capstone and GNU objdump, in one shape."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.binutils import binutils


class Instruction(NamedTuple):
    """A mnemonic and its operands as written; both empty if the word is no instruction."""

    mnemonic: str
    operands: str

    @property
    def target(self) -> int:
        """The address its last operand names."""
        return int(self.operands.rpartition(", ")[2].lstrip("#").split()[0], 16)


@cache
def _capstone() -> Any:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def by_capstone(word: int, address: int) -> Instruction:
    found = next(_capstone().disasm(struct.pack("<I", word), address), None)
    return Instruction(found.mnemonic, found.op_str) if found else Instruction("", "")


def by_objdump(words: Sequence[int], base: int, folder: Path) -> list[Instruction]:
    """Every word in one run; no aliases, so that a mnemonic tells an encoding."""
    path = folder / "words.bin"
    path.write_bytes(struct.pack(f"<{len(words)}I", *words))
    options = ("-D", "-z", "-b", "binary", "-m", "aarch64", "-M", "no-aliases,no-notes", f"--adjust-vma={base:#x}")
    found = list(_listed(binutils("objdump", *options, path).splitlines()))
    assert [address for address, _, _ in found] == [base + 4 * at for at in range(len(words))]
    assert [word for _, word, _ in found] == list(words)
    return [instruction for _, _, instruction in found]


def _listed(lines: Iterable[str]) -> Iterable[tuple[int, int, Instruction]]:
    for line in lines:
        if match := re.match(r" *([0-9a-f]+):\t([0-9a-f]{8}) \t([^\t]+)\t?(.*)$", line):
            known = not match[3].startswith(".inst")
            instruction = (
                Instruction(match[3].strip(), match[4].partition("  //")[0].strip()) if known else Instruction("", "")
            )
            yield int(match[1], 16), int(match[2], 16), instruction


def listing(path: Path) -> dict[int, tuple[int, Instruction]]:
    """Every word of the executable sections of an ELF file, by address, as objdump disassembles it."""
    lines = binutils("objdump", "-d", "-z", "-M", "no-aliases", path).splitlines()
    return {address: (word, instruction) for address, word, instruction in _listed(lines)}


def register(name: str) -> int:
    """The number of a general register: 31 for the zero register and the stack pointer."""
    return 31 if name in ("sp", "wsp", "xzr", "wzr") else int(name[1:])
