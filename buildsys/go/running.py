"""Whether the kernel can run an instruction: its function is reached, and it does not only lead to an end."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from buildsys.formats.elf import Elf
from buildsys.go.doomed import doomed
from buildsys.go.flag import code_of
from buildsys.go.reach import Reach


class Running:
    """The instructions of the image `elf` that can run; `ends` are the functions that do not return."""

    def __init__(self, elf: Elf, reached: Reach, ends: Collection[int]) -> None:
        self._elf, self._reached, self._ends = elf, reached, ends
        self._code = code_of(elf)
        self._dead: dict[int, set[int]] = {}

    def any(self, pieces: Iterable[tuple[int, int]]) -> bool:
        """Whether some instruction of `pieces` can run, each from an address to before another."""
        return any(self._can(at) for low, high in pieces for at in range(low, high, 4))

    def _can(self, address: int) -> bool:
        function = self._elf.symbols.function_at(address)
        if function is None or function.value not in self._reached.functions:
            return False
        if function.value in self._reached.entered:  # it begins with a branch, and nothing enters what follows
            return False
        body = self._code.body(address)
        if body.base not in self._dead:
            self._dead[body.base] = doomed(body.words, body.base, self._ends)
        return address - body.base >> 2 not in self._dead[body.base]
