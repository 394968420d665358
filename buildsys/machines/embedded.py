"""The embedded emulator: an image runs on a board inside this process, by Unicorn; nothing to install.

What it has: the board's flash and RAM, one core that leaves reset at the board's exception
level, a PL011 that sends and receives, the devices the board's file names, semihosting's exit and console,
PSCI power-off and reset, and synchronous exceptions of EL0 and EL1, which enter the guest's
vectors at EL1 with the registers QEMU gives them (`exceptions` says how). EL2 and EL3 are there
to be left: an exception taken at, or to, one of them ends the run. PSCI is there on a board that
begins at EL1, as on QEMU, where it stands in for what is above. One interrupt is there, that of the
virtual timer (`timer`), on a board that has a controller; it comes in `wfi`, in the place of a synchronous
exception, and, a few milliseconds late, between any two blocks of code.

What it does not have: other interrupts, so that without that one `wfi` sleeps until the time limit; any
other device; other cores; and, Unicorn being of QEMU 5.0, three traps: floating point that was
never enabled runs, a misaligned `ldar` or `stlr` works, a misaligned jump is noticed only
at an undefined instruction. The counter does not begin at 0, and ID_AA64PFR0_EL1 tells of
an EL2 and EL3 also where the core begins below them.

It is stricter than QEMU where that finds a mistake sooner. An exception with no handler
behind it ends the run, and so does an access to nothing, which on QEMU is an external abort.
A store to flash is lost and reported; QEMU's flash is a CFI chip to which the low byte
stored is a command: most do nothing, 0x20 erases, and 0x10, 0x40, 0x70, 0x90, 0x98 and 0xe8
make it unreadable, so that a kernel running from it hangs.
"""

from __future__ import annotations

import contextlib
import functools
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildsys.config.board import CONTROLLERS, ENTROPY, Board, Device, drawing
from buildsys.errors import UserError
from buildsys.formats.elf import PT_LOAD, Elf
from buildsys.machines import exceptions, semihosting
from buildsys.machines.ends import BOOTS, NO_IDENTITY, NOTHING, Ends
from buildsys.machines.entropy import Bcm2835, Virtio
from buildsys.machines.fw_cfg import FwCfg
from buildsys.machines.given import Given
from buildsys.machines.interruption import Interruption
from buildsys.machines.outcome import End, LostWrite, Outcome, ending
from buildsys.machines.pcie import Pcie
from buildsys.machines.pl011 import Pl011
from buildsys.machines.processor import CPACR_EL1, UNDEFINED, AccessError, CoreError, Processor
from buildsys.machines.processor import HVC as TO_EL2
from buildsys.machines.registers import Registers
from buildsys.machines.snapshot import Snapshot, held, ram_of
from buildsys.machines.timer import Bcm2836, Controller, Gicv2, Pl031, Timer

Model = FwCfg | Pcie | Registers | Controller | Pl031 | Virtio | Bcm2835

WFI = 0xD503207F
NO_TRAP = 3 << 20  # Arm ARM: CPACR_EL1: FPEN
HVC, HVC_MASK = 0xD4000002, 0xFFE0001F
# Arm DEN 0022, Power State Coordination Interface: its functions, without the bit that says
# "64-bit", and the two of them that end a run. Arm DEN 0028: what any other function returns.
PSCI, PSCI_64_BIT = range(0x84000000, 0x84000020), 0x40000000
PSCI_ENDS = {0x84000008: End.POWER_OFF, 0x84000009: End.RESET}
NOT_SUPPORTED = (1 << 64) - 1

LOST_WRITES_KEPT = 1000
STOP_AGAIN = 0.01  # seconds
TICK = 0.005  # seconds: how often it is looked whether the timer interrupts


def run(
    image: Path,
    board: Board,
    time_limit: float,
    on_serial: Callable[[bytes], None] | None = None,
    prepare: Callable[[Machine], None] | None = None,
    keep: Sequence[range] = (),
    dead_ends: Mapping[int, str] = NOTHING,
    snapshot: bool = False,
    given: int | None = None,
) -> Outcome:
    """Run `image` on `board` for at most `time_limit` seconds.

    `on_serial` gets each byte as the guest sends it. `prepare` gets the machine, loaded but
    not started, to watch addresses. `keep` are ranges of memory to read when the run has ended.
    `dead_ends` are functions that no good end follows, names by address; with `snapshot` the machine is kept as
    it was when it came to one, or did not end. The serial port receives what can be read from the descriptor
    `given`. Raises UserError for an image or board that cannot run.
    """
    machine = Machine(board)
    machine.load(image, dead_ends, snapshot)
    if given is not None:
        machine.give(given)
    if prepare is not None:
        prepare(machine)
    outcome = machine.run(time_limit, on_serial)
    outcome.memory.update(machine.kept(keep))
    return outcome


class Machine:
    """One board that runs one image once. Raises UserError for a processor Unicorn does not have."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._core = Processor(board.cpu, str(board.path), board.exception_level)
        self._serial = bytearray()
        self._on_serial: Callable[[bytes], None] | None = None
        self._end: End | None = None
        self._exit_code: int | None = None
        self._detail = ""
        self._last_exception = ""
        self._last_fault: tuple[int, int] | None = None
        self._lost: list[LostWrite] = []
        self._lost_count = 0
        self._last_lost = LostWrite(0, 0, 0)
        self._ends: Ends | None = None
        self._doubt = ""
        self._snapshot: Snapshot | None = None
        self._takes_snapshot = False
        self._fault: tuple[int, int] | None = None  # syndrome and address of an exception that ends the run
        self._looking = 0.0  # seconds that the guest was stopped for that: they are not the guest's

        for region in board.regions:
            if region.kind in ("flash", "ram"):
                self._core.add_memory(region.origin, region.length, writable=region.kind == "ram")
        self._uart = Pl011(self._send)
        self._core.add_device(board.uart.base, board.uart.size, self._uart.read, self._uart.write)
        self._timer = Timer(self._core)
        self._controller: Controller | None = None
        self._ticking: _Ticking | None = None  # of an image that sets the timer: looking costs as much as a short block
        for device in board.devices:
            model = self._model(device)
            self._core.add_registers(device.base, device.size, model.read, model.write)
        self._core.on_exception(self._excepted)
        self._core.on_lost_write(self._wrote_flash)

    def kept(self, ranges: Sequence[range]) -> dict[int, bytes]:
        """What is in those of `ranges` that can be read, by their first addresses."""
        found = {}
        for each in ranges:
            with contextlib.suppress(ValueError):
                found[each.start] = self.read(each.start, len(each))
        return found

    def load(self, image: Path, dead_ends: Mapping[int, str] = NOTHING, snapshot: bool = False) -> None:
        """Put the segments of the ELF file `image` at their load addresses. Raises UserError.

        `dead_ends` and `snapshot` are as for the function run().
        """
        elf = Elf.read(image)
        self._ends, self._takes_snapshot = Ends.of(elf, dead_ends), snapshot
        segments = [segment for segment in elf.segments if segment.kind == PT_LOAD and segment.memory_size]
        if not segments:
            raise UserError(f"{image}: nothing in it is to be loaded", "it must be a linked image")
        if self._controller is not None and self._timer.watch(elf):
            self._ticking = _Ticking(self._timer, self._core.between_blocks())
        entry = elf.entry
        for segment in segments:
            last = segment.lma + segment.memory_size - 1
            region = self.board.region_at(segment.lma)
            if region is None or region.kind == "device" or last not in region:
                raise UserError(
                    f"{image}: the segment {segment.lma:#x}-{last + 1:#x} does not fit the board's memory\n"
                    + drawing(self.board)
                )
            self._core.store(segment.lma, elf.data[segment.offset : segment.offset + segment.file_size])
            # The header names where the entry runs, the core starts where it is stored; as QEMU has it.
            if segment.vma <= elf.entry < segment.vma + segment.file_size:
                entry = elf.entry - segment.vma + segment.lma
        self._core.set("pc", entry)
        for address in self._ends.dead:
            self._core.on_execution(address, functools.partial(self._came_to, address))
        if self._ends.booted is not None:
            self._core.on_execution(self._ends.booted, self._booted)

    def give(self, descriptor: int) -> None:
        """Have the serial port receive what can be read there, and Ctrl-D at its end."""
        self._uart.given = Given(descriptor)

    def run(self, time_limit: float, on_serial: Callable[[bytes], None] | None = None) -> Outcome:
        """Run from the image's entry for at most `time_limit` seconds. What a callback raises is raised."""
        began = time.monotonic()
        self._on_serial = on_serial
        with Interruption() as interruption:
            end = self._run_until(began + time_limit, interruption)
        if end is not End.EXIT:
            self._take()
            self._doubt = (self._ends.doubted or self._ends.overflow(self._core.read)) if self._ends else ""
        return Outcome(
            end=end,
            serial=bytes(self._serial),
            seconds=time.monotonic() - began,
            exit_code=self._exit_code,
            detail=self._detail,
            lost_writes=tuple(self._lost),
            registers={} if end is End.EXIT else self.registers(),
            lost_write_count=self._lost_count,
            doubt=self._doubt,
            identity=self._ends.identity.hex() if self._ends else "",
            boots=self._ends.boots if self._ends else 0,
            snapshot=self._snapshot,
        )

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address` as the guest sees them. Raises ValueError where it sees nothing."""
        data = self._core.read(address, size)
        if data is None:
            raise ValueError(f"the guest has no memory at {address:#x}-{address + size:#x}")
        return data

    def register(self, name: str) -> int:
        """One register: "x0" to "x30", "w0" to "w30", "sp", "pc", or a system register such as "esr_el1"."""
        return self._core.get(name)

    def registers(self) -> dict[str, int]:
        """x0 to x30, sp and pc; register() is quicker for one."""
        return {name: self._core.get(name) for name in (*(f"x{n}" for n in range(31)), "sp", "pc")}

    def set_register(self, name: str, value: int) -> None:
        """Give one register, of those `register` knows, another value: pc, too, in a callback of `watch`."""
        self._core.set(name, value)

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at a physical address."""
        self._core.store(address, data)

    def at_el1(self, stack: int, exception_stack: int, vectors: int) -> None:
        """Have the core, loaded and not started, where boot code brings it, but with the MMU off.

        It is at EL1 on SP_EL0, exceptions masked; floating point is on.
        """
        self._core.set("pstate", exceptions.DAIF | exceptions.EL1T)
        self._core.set_system(CPACR_EL1, NO_TRAP)
        for name, value in (("sp", stack), ("sp_el1", exception_stack), ("vbar_el1", vectors)):
            self._core.set(name, value)

    def take(self, exception: exceptions.Taken) -> None:
        """Have the core, not started, begin with `exception`."""
        exceptions.take(self._core, exception)

    def watch(self, address: int, callback: Callable[[Machine], None]) -> None:
        """Call `callback` each time the instruction at `address` is about to run; only before run()."""
        self._core.on_execution(address, lambda: callback(self))

    def trace(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the address of each run of instructions up to a branch; only before run()."""
        self._core.on_block(callback)

    def _model(self, device: Device) -> Model:
        if device.model == "fw-cfg":
            return FwCfg(device.files, self._core.load, self._copy_in)
        if device.model in CONTROLLERS:
            self._controller = (
                Gicv2(device.interface - device.base, device.timer, self._asks)
                if device.model == "gicv2"
                else Bcm2836(self._asks)
            )
            return self._controller
        if device.model in ENTROPY:
            return Virtio(device.size, self._core.load, self._copy_in) if device.model == "virtio-mmio" else Bcm2835()
        if device.model == "pl031":
            return Pl031()
        return Pcie() if device.model == "pcie" else Registers()

    def _came_to(self, address: int) -> None:
        if self._ends is not None and self._ends.came_to is None:
            self._ends.came_to = self._ends.ended_at(address, self._core.read)
            if self._ends.came_to is not None:
                self._take()

    def _booted(self) -> None:
        if self._ends is None:
            return
        self._ends.boots += 1
        if self._ends.boots == BOOTS:
            self._finish(End.OVER_AND_OVER, "")

    def _take(self) -> None:
        """Keep the machine as it is now, unless one is kept or nobody wants one."""
        if not self._takes_snapshot or self._snapshot is not None:
            return
        began = time.monotonic()
        registers, ram = {**self.registers(), **self._core.system_registers()}, ram_of(self.board)
        registers["sp_el1" if registers["pstate"] & 1 else "sp_el0"] = registers["sp"]
        came_to = self._ends.came_to if self._ends else None
        self._snapshot = Snapshot(registers, held(ram, self._stored), ram, came_to, self._fault)
        self._looking += time.monotonic() - began

    def _stored(self, address: int, size: int) -> bytes:
        return self._core.load(address, size) or bytes(size)

    def _asks(self) -> bool:
        return self._timer.pending

    def _interrupted(self) -> bool:
        """Whether the timer's interrupt could be taken, and was."""
        if self._controller is None or not self._timer.pending:
            return False
        if not self._controller.enabled or not exceptions.interruptible(self._core):
            return False
        exceptions.interrupt(self._core)
        return True

    def _copy_in(self, address: int, data: bytes) -> None:
        """What a device writes to memory; what is not RAM keeps what it has."""
        region = self.board.region_at(address)
        if region is not None and region.kind == "ram" and address + len(data) <= region.end:
            self._core.store(address, data)

    def _send(self, data: bytes) -> None:
        before = len(self._serial)
        self._serial += data
        if self._on_serial is not None:
            self._on_serial(data)
        if end := ending(self._serial, self.board.until, before):
            del self._serial[end:]
            self._finish(End.SAID, "")

    def _wrote_flash(self, address: int, size: int) -> None:
        lost, before = LostWrite(self._core.get("pc"), address, size), self._last_lost
        # A store that crosses a page is reported whole, and then again byte by byte.
        if lost.pc == before.pc and size < before.size and before.address <= address < before.address + before.size:
            return
        self._last_lost = lost
        self._lost_count += 1
        if self._lost_count <= LOST_WRITES_KEPT:
            self._lost.append(lost)

    def _excepted(self, number: int) -> None:
        pc, function = self._core.get("pc"), self._core.get("w0")
        word = self._core.word(pc) if number == UNDEFINED else None
        if word == semihosting.INSTRUCTION and not exceptions.from_el0(self._core):
            self._semihost(function, pc)
        elif number == TO_EL2 or exceptions.level(self._core) > 1:
            self._finish(End.FAULT, self._above(number))
        elif word is not None and word & HVC_MASK == HVC and self.board.exception_level == 1:
            self._call_firmware(function)
        else:
            self._except(number)

    def _call_firmware(self, function: int) -> None:
        if function in PSCI_ENDS:
            self._finish(PSCI_ENDS[function], "by PSCI" + self._pc_text())
        elif function & ~PSCI_64_BIT in PSCI:
            what = f"PSCI function {function:#x} is not supported by the embedded emulator"
            self._finish(End.FAULT, what + self._pc_text())
        else:
            self._core.set("x0", NOT_SUPPORTED)
            self._core.set("pc", self._core.get("pc") + 4)

    def _semihost(self, operation: int, pc: int) -> None:
        try:
            done = semihosting.call(operation, self._core.get("x1"), self._core.read, self._send)
        except semihosting.RefusedError as refused:
            self._finish(End.FAULT, f"{refused}, at pc {pc:#x}")
            return
        if isinstance(done, semihosting.Exit):
            self._exit_code = done.code
            if not done.code:
                ends = self._ends
                self._doubt = ends.doubt(pc, self._core.get("x1"), self._core.read) if ends else NO_IDENTITY
                self._doubt = self._doubt or self._unsent()
            self._finish(End.EXIT, "")
        else:
            self._core.set("x0", done.value)
            self._core.set("pc", pc + 4)

    def _unsent(self) -> str:
        """What of the guest's output was never sent, in words; empty if nothing was held back."""
        if not self._uart.unsent:
            return ""
        return "output was lost: the serial port was turned off (UARTCR), and what was written then waits in it"

    def _except(self, number: int) -> None:
        taken = exceptions.pending(self._core, number)
        if taken is not None and self._timer.due is not None:
            self._core.set("pc", taken.at)
            if self._interrupted():
                return  # the instruction is run again afterwards
            self._core.set("pc", taken.pc)
        if taken is None:
            self._finish(End.FAULT, f"exception {number} of unknown syndrome{self._pc_text()}")
            return
        word = self._core.word(taken.at)
        what = f"{taken}, at pc {taken.at:#x}" + ("" if word is None else f" (instruction {word:#010x})")
        target = exceptions.vector(self._core)
        if target == taken.pc:
            self._fault = self._last_fault or (taken.syndrome, taken.fault_address)
            self._finish(End.FAULT, _sentence(what, "the exception vector itself faults", self._last_exception))
        elif not self._core.word(target):
            self._fault = taken.syndrome, taken.fault_address
            # On the machine it would be undefined too, and so for ever.
            self._finish(End.FAULT, f"{what}; its vector, {target:#x}, holds no handler")
        else:
            self._last_fault = taken.syndrome, taken.fault_address
            self._last_exception = f"last exception: {what}"
            exceptions.take(self._core, taken)

    def _finish(self, end: End, detail: str) -> None:
        self._end, self._detail = end, detail
        self._core.stop()

    def _run_until(self, deadline: float, interruption: Interruption) -> End:
        with _Stopper(self._core, lambda: deadline + self._looking, interruption, self._ticking) as stopper:
            while self._end is None:
                try:
                    self._core.run()
                except AccessError as nothing:
                    self._fault = nothing.syndrome, nothing.address
                    self._finish(End.FAULT, f"{nothing}{self._pc_text()}: {self._missing(nothing.address)}")
                except CoreError as error:
                    self._finish(End.EMULATOR, f"{error}{self._pc_text()}")
                else:
                    self._returned(deadline + self._looking, interruption, stopper)
            return self._end

    def _returned(self, deadline: float, interruption: Interruption, stopper: _Stopper) -> None:
        """The core stopped and nothing was wrong: at an end, at a signal, at the deadline, for the timer, or in `wfi`.

        A signal whose handler raised nothing ends the run as well: it cannot go on from such a place.
        """
        asleep = self._end is None and not stopper.fired.is_set()
        if asleep and stopper.ticked():
            self._interrupted()
            return  # if it was in `wfi`, that has ended: it may at any time
        if asleep:
            # The timer ends `wfi` whether its interrupt is masked or not (Arm ARM: WFI).
            due = self._timer.due if self._controller is not None and self._controller.enabled else None
            if not stopper.fired.wait(None if due is None else max(0.0, due - time.monotonic())):
                self._interrupted()
                return
        if self._end is not None:
            return
        where = "asleep in wfi" + self._pc_text(-4) if asleep else "running" + self._pc_text()
        if time.monotonic() >= deadline and not interruption.seen:
            self._finish(End.TIME_LIMIT, _sentence(where, self._last_exception))
        else:
            self._finish(End.INTERRUPTED, where)

    def _above(self, number: int) -> str:
        """An exception that EL1 does not get, in words."""
        level = exceptions.level(self._core)
        what = "hvc" if number == TO_EL2 else str(exceptions.pending(self._core, number) or f"exception {number}")
        return f"{what} at EL{level}, which is taken to EL{max(level, 2)}{self._pc_text()}: nothing handles it there"

    def _pc_text(self, offset: int = 0) -> str:
        return f", at pc {self._core.get('pc') + offset:#x}"

    def _missing(self, address: int) -> str:
        kind = "memory" if self.board.region_at(address) is None else "device"
        return f"no {kind} is there"


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


@dataclass
class _Ticking:
    """Stops a core between two blocks when `timer` is due. `asked` tells that it is to be stopped there, or was."""

    timer: Timer
    stops: Callable[[bool], None]
    asked: bool = False

    def look(self) -> None:
        """Have the core stopped if the timer is due."""
        due = self.timer.due
        if due is not None and due <= time.monotonic():
            self.asked = True
            self.stops(True)

    def heed(self) -> bool:
        """Whether the core was to be stopped; it is not any longer."""
        self.stops(False)
        asked, self.asked = self.asked, False
        return asked


class _Stopper:
    """While entered, a thread stops `core` at the deadline and at every signal that asks for an end; and for a timer.

    Unicorn runs in C, so that no Python of this thread would. `fired` tells of a stop: a run is not to go on.
    """

    def __init__(
        self,
        core: Processor,
        deadline: Callable[[], float],
        interruption: Interruption,
        ticking: _Ticking | None,
    ) -> None:
        self.fired = threading.Event()
        self._core, self._deadline, self._interruption, self._ticking = core, deadline, interruption, ticking
        self._done = threading.Event()
        self._lock = threading.Lock()  # no stop may come after the end
        self._thread = threading.Thread(target=self._watch, name="time limit", daemon=True)

    def __enter__(self) -> _Stopper:
        if self._ticking is not None:
            self._ticking.timer.on_armed = self._interruption.wake
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        with self._lock:
            self.fired.clear()
        self._interruption.wake()
        self._thread.join()

    def ticked(self) -> bool:
        """Whether the core was stopped for the timer, since this was asked last."""
        return self._ticking is not None and self._ticking.heed()

    def _watch(self) -> None:
        while not self._done.is_set():
            # select() takes no endless time; waking for nothing once an hour is harmless.
            longest = 3600.0 if self._ticking is None or self._ticking.timer.due is None else TICK
            select.select([self._interruption.fd], [], [], min(max(0.0, self._deadline() - time.monotonic()), longest))
            # Any other signal leaves the core alone.
            if not self._interruption.drain() and time.monotonic() < self._deadline():
                if self._ticking is not None:
                    self._ticking.look()
                continue
            self.fired.set()
            while self._stop_again():
                time.sleep(STOP_AGAIN)

    def _stop_again(self) -> bool:
        with self._lock:
            if self.fired.is_set():
                self._core.stop()
            return self.fired.is_set()
