"""A function as unkind as the ABI lets one be, put in the place of the one that is given batches.

It notes its arguments, calls a barrier itself, and leaves other values in every register that a Go
function, or assembly of the user's, may change: all but x18, x28, x29 and sp.
Instruction encodings: Arm Architecture Reference Manual (DDI 0487), C6.2 and C7.2.
"""

from __future__ import annotations

import random

from buildsys.proof.trials import SEED, Trials

_ROOM = 1 << 20  # bytes for what is noted
_NOTE = 32  # bytes of one visit: x0, x1, x2, and x25 of the barrier it called
# Places in its memory; the first word points behind the last note, the second is stored to.
_NOISE, _NOTES, _CODE = 0x40, 0x1000, 0x800
_RET, _MSR_FPSR = 0xD65F_03C0, 0xD51B_4420


class Stranger:
    """Code for the functions on `trials`, entered at `function`; it calls `barrier`."""

    def __init__(self, trials: Trials, function: int, barrier: int) -> None:
        self._trials = trials
        self._at = trials.add_memory(_NOTES + _ROOM)
        self._noise = random.Random(SEED).randbytes(0x400)
        trials.put(self._at + _CODE, self._code(barrier))
        trials.put(function, [*_load(9, self._at + _CODE), 0xD61F_0000 | 9 << 5])  # br x9

    def arrive(self) -> None:
        """Forget earlier visits."""
        first = self._at + _NOTES
        words = [first & 0xFFFF_FFFF, first >> 32]
        self._trials.put(self._at, words)
        self._trials.put(first, [0] * (_ROOM // 4))
        noise = [int.from_bytes(self._noise[at : at + 4], "little") for at in range(0, len(self._noise), 4)]
        self._trials.put(self._at + _NOISE, noise)

    def visits(self) -> list[tuple[int, int, int, int]]:
        """x0, x1 and x2 of each visit, and x25 of the barrier that was called in it."""
        end = int.from_bytes(self._trials.read(self._at, 8), "little")
        notes = self._trials.read(self._at + _NOTES, end - self._at - _NOTES)
        words = [int.from_bytes(notes[at : at + 8], "little") for at in range(0, len(notes), 8)]
        return [(words[at], words[at + 1], words[at + 2], words[at + 3]) for at in range(0, len(words), 4)]

    def _code(self, barrier: int) -> list[int]:
        noise = self._at + _NOISE
        return [
            *_load(9, self._at),
            0xF940_0000 | 9 << 5 | 10,  # ldr x10, [x9]
            0xA900_0000 | 1 << 10 | 10 << 5 | 0,  # stp x0, x1, [x10]
            0xF900_0000 | 2 << 10 | 10 << 5 | 2,  # str x2, [x10, #16]
            *_load(0, noise),
            0xF900_0000 | 30 << 10 | 0 << 5 | 30,  # str x30, [x0, #240]
            *_load(11, barrier),
            *_load(2, self._at + 8),  # where a barrier that stores does
            0xD63F_0000 | 11 << 5,  # blr x11
            0xF900_0000 | 3 << 10 | 10 << 5 | 25,  # str x25, [x10, #24]
            0x9100_0000 | _NOTE << 10 | 10 << 5 | 10,  # add x10, x10, #_NOTE
            0xF900_0000 | 9 << 5 | 10,  # str x10, [x9]
            *(0xAD40_0000 | at // 2 << 15 | at + 1 << 10 | 0 << 5 | at for at in range(0, 32, 2)),  # ldp q, q, [x0, …]
            *(0xA940_0000 | at << 15 | at + 1 << 10 | 0 << 5 | at for at in (2, 4, 6, 8, 10, 12, 14, 16)),  # ldp
            0xF940_0000 | 19 << 10 | 19,  # ldr x19, [x0, …]
            *(0xA940_0000 | at << 15 | at + 1 << 10 | 0 << 5 | at for at in (20, 22, 24, 26)),
            0xD280_0001 | 0x9F << 5,  # mov x1, #0x9f: exceptions that floating point notes
            _MSR_FPSR | 1,
            0xF940_0000 | 30 << 10 | 0 << 5 | 30,  # ldr x30, [x0, #240]
            0xA940_0000 | 1 << 10 | 0 << 5 | 0,  # ldp x0, x1, [x0]
            0xEB00_001F,  # cmp x0, x0
            _RET,
        ]


def _load(register: int, value: int) -> list[int]:
    """movz and movk of a number of 64 bits."""
    return [
        0xD280_0000 | (0x2000_0000 if half else 0) | half << 21 | (value >> 16 * half & 0xFFFF) << 5 | register
        for half in range(4)
    ]
