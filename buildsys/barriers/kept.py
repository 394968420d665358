"""Where in memory each policy keeps what it has to tell, and reading words there."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from buildsys.config.barrier import COUNT, RECORD, USER
from buildsys.errors import UserError
from buildsys.formats.elf import Elf

COUNTS, UNCOUNTED = "buildsys.counts", "buildsys.uncounted"
RING, BATCH = "buildsys.ring", "buildsys.batch"

# The variables of templates/barrier-*.s.j2 that are read when a run has ended, by policy.
VARIABLES = {COUNT: (COUNTS, UNCOUNTED), RECORD: (RING,), USER: (BATCH,)}
HEADS = {BATCH: 64}  # of these, only the first bytes


class Kept:
    """The variables of `policy` in the image `elf`, and what `memory` held there when the run ended."""

    def __init__(self, elf: Elf, policy: str) -> None:
        self._variables: dict[str, range] = {}
        for name, symbols in elf.symbols.named(*VARIABLES.get(policy, ())).items():
            if len(symbols) != 1:
                raise UserError(
                    f"{elf.name}: {name} is {'no symbol' if not symbols else 'several symbols'}",
                    f'templates/barrier-{policy}.s.j2 has it; is another template in the place of "{policy}"?',
                )
            self._variables[name] = range(
                symbols[0].value, min(symbols[0].end, symbols[0].value + HEADS.get(name, symbols[0].size))
            )

    @property
    def ranges(self) -> Sequence[range]:
        """The memory to read at the end of a run."""
        return tuple(self._variables.values())

    def words(self, memory: Mapping[int, bytes], name: str) -> tuple[int, ...] | None:
        """The 64-bit words of the variable `name`; None if they could not be read."""
        contents = memory.get(self._variables[name].start)
        return None if contents is None else struct.unpack(f"<{len(contents) // 8}Q", contents)
