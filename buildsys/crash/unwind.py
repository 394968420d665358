"""The functions on a stack, innermost first: by call frame information; what is only guessed says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from buildsys.crash.source import PROGRAM, Position, Source
from buildsys.crash.view import Memory
from buildsys.formats.a64 import is_bl
from buildsys.formats.cfi import FP, LR, SP, Frames, caller
from buildsys.formats.elf import Elf
from buildsys.go.signatures import ABI0

DEEPEST = 100_000  # frames
# Nothing called these (src/runtime/asm_arm64.s); behind them there is nothing to be told.
TOPS = ("runtime.goexit", "runtime.rt0_go", "runtime.mstart")
INSERTED = ("runtime.sigpanic", "runtime.asyncPreempt")  # signal handlers make a frame seem to have called them
# These call the system on another stack, of which their call frame information knows nothing, and keep their own
# stack pointer in x20 meanwhile (src/runtime/sys_linux_arm64.s).
ELSEWHERE = ("runtime.nanotime1", "runtime.walltime")
_KEEP, _RETURN = 0x9100_03F4, 0x9100_029F  # C6.2 MOV (to/from SP): x20 from sp, sp from x20
LINK_GUESS, POINTER_GUESS = "guess: the link register", "guess: the frame pointer"


@dataclass(frozen=True)
class Frame:
    """One function on a stack: `pc` is the instruction it is at, or goes on at behind a call; `sp` its stack pointer.

    `positions` are its lines, innermost first; `guess` says by what the frame was guessed, if it was; `served`, that it
    called none of those before it: they are of a supervisor, which it asked or which an interrupt called.
    """

    pc: int
    sp: int
    function: str
    offset: int
    positions: tuple[Position, ...]
    guess: str = ""
    served: bool = False

    @property
    def name(self) -> str:
        """The function's name, or its address if it is in none."""
        return self.positions[-1].function if self.positions else f"{self.pc:#x}"


class Unwinder:
    """Unwinds the stacks of one image."""

    def __init__(self, elf: Elf, view: Memory, source: Source) -> None:
        self._elf, self._view, self._source = elf, view, source
        self._frames = Frames(elf)

    def frames(self, registers: Mapping[str, int], called: bool = False) -> Iterator[Frame]:
        """The frames of a thread with these registers, of which "pc" and "sp" are needed.

        If it has `called` something that is not to be among them, "pc" is where it would go on.
        """
        numbered = {number: registers[f"x{number}"] for number in range(31) if f"x{number}" in registers}
        numbered[SP] = registers["sp"]
        pc, guess, at_call = registers["pc"], "", called
        for depth in range(DEEPEST):
            # Behind a call, what comes next may be of another line, or function.
            frame = self._frame(pc, numbered[SP], 4 if at_call else 0, guess)
            yield frame
            if frame.name in TOPS:
                return
            numbered = self._on_own_stack(pc, frame, numbered)
            below = self._caller(pc - 4 if at_call else pc, frame, numbered, not depth)
            if below is None:
                return
            found, guess = below
            if found[SP] < numbered[SP] or (depth and at_call and found[SP] == numbered[SP]):
                return  # the stack leads in a circle
            pc, at_call, numbered = found[LR], True, found
            if frame.name in INSERTED:
                at_call, numbered = False, self._interrupted(found)
            elif not self._goes_on(pc):
                return

    def _on_own_stack(self, pc: int, frame: Frame, registers: dict[int, int]) -> dict[int, int]:
        """`registers` with the stack pointer that the function at `pc` keeps elsewhere, if it does at this moment."""
        function = self._source.function(pc) if frame.name in ELSEWHERE else None
        if function is None or 20 not in registers:
            return registers
        words = {at: self._elf.word(at) for at in range(function.value, function.end, 4)}
        kept = next((at for at, word in words.items() if word == _KEEP), None)
        returned = max((at for at, word in words.items() if word == _RETURN), default=0)
        return registers | {SP: registers[20]} if kept is not None and kept < pc <= returned else registers

    def _interrupted(self, found: dict[int, int]) -> dict[int, int]:
        """The registers of who seems to have called what no instruction called.

        src/runtime/signal_arm64.go, preparePanic and pushCall: its x30 was put on the stack, 16 bytes
        below its own.
        """
        return {**found, LR: self._view.word(found[SP]) or 0, SP: found[SP] + 16}

    def _goes_on(self, address: int) -> bool:
        """Whether a function returns to `address`."""
        function = self._source.function(address)
        known = function is not None and function.name.removeprefix(PROGRAM).removesuffix(ABI0) in TOPS
        return known or self._is_return(address)

    def _frame(self, pc: int, sp: int, back: int, guess: str) -> Frame:
        function = self._source.function(pc - back)
        return Frame(
            pc,
            sp,
            function.name if function else "",
            pc - function.value if function else 0,
            tuple(self._source.positions(pc - back)),
            guess,
        )

    def _caller(
        self, pc: int, frame: Frame, registers: dict[int, int], innermost: bool
    ) -> tuple[dict[int, int], str] | None:
        row = self._frames.row(pc)
        if row is not None:
            found = caller(row, registers, self._view.word)
            return None if found is None else (found, "")
        if innermost and not frame.function and self._is_return(registers.get(LR, 0)):
            return dict(registers), LINK_GUESS
        if not frame.function:
            return None
        # A function that tells nothing of itself: if it has not saved x30 anywhere, that leads on.
        if by_pointer := self._by_pointer(registers):
            return by_pointer
        return (dict(registers), LINK_GUESS) if innermost and self._is_return(registers.get(LR, 0)) else None

    def _by_pointer(self, registers: dict[int, int]) -> tuple[dict[int, int], str] | None:
        """By AAPCS64, 6.4.6: x29 points to the caller's x29 and to where the caller goes on."""
        pointer = registers.get(FP, 0)
        above, link = self._view.word(pointer), self._view.word(pointer + 8)
        if above is None or link is None or pointer < registers[SP] or not self._is_return(link):
            return None
        return {**registers, FP: above, LR: link, SP: pointer + 16}, POINTER_GUESS

    def _is_return(self, address: int) -> bool:
        """Whether there is a call right before `address`."""
        word = self._elf.word(address - 4) if address % 4 == 0 and self._source.function(address - 4) else None
        # Arm ARM C6.2.34 BLR: any register.
        return word is not None and (is_bl(word) or word & 0xFFFF_FC1F == 0xD63F_0000)
