"""A Go program run whole, runtime and all, by a processor whose system calls are answered here; every function noted.

Threads take turns: one runs until it waits, sleeps or yields. There are no files and no signals. Calls and
answers are those of Linux on arm64 (include/uapi/asm-generic/unistd.h). Memory is there as soon as it is touched.
"""

from __future__ import annotations

import importlib
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from buildsys.formats.elf import PT_LOAD, Elf

PAGE = 1 << 16
STACK, HIGH = 0x7F_0000_0000, 0x60_0000_0000
SVC = 2  # QEMU's number of the exception
ENOENT, EAGAIN, ENOSYS, ETIMEDOUT = -2, -11, -38, -110
LIMIT = 30_000_000  # microseconds
WAITS, WAKES = 0, 1  # futex operations, without FUTEX_PRIVATE_FLAG
OPERATION = 0x7F
(WRITE, EXIT, EXIT_GROUP, FUTEX, NANOSLEEP, CLOCK_GETTIME, SCHED_GETAFFINITY, YIELD, CLONE, MMAP, GETRANDOM) = (
    64, 93, 94, 98, 101, 113, 123, 124, 220, 222, 278,
)  # fmt: skip
OPEN, READ, READLINK = 56, 63, 78
# Done, or nothing to do: fcntl, sigaltstack, rt_sigaction, rt_sigprocmask, munmap, madvise, tgkill, prctl …
NOTHING = {25, 57, 131, 132, 134, 135, 167, 215, 226, 233, 283}
IDENTITY = {172: 1, 178: 1}  # getpid, gettid


@dataclass
class Thread:
    """One thread that is not running: its registers, and the futex it waits at."""

    number: int
    registers: Any
    futex: int = 0
    timed: bool = False


class Whole:
    """The program in the image `elf`, which is a c-archive's, begun as an operating system begins one.

    `during` are the places run from the entry to one of the functions at `watched` to its return, for each.
    """

    def __init__(self, elf: Elf, watched: Iterable[int] = ()) -> None:
        self._unicorn: Any = importlib.import_module("unicorn")
        self._arm: Any = importlib.import_module("unicorn.arm64_const")
        self._uc: Any = self._unicorn.Uc(self._unicorn.UC_ARCH_ARM64, self._unicorn.UC_MODE_ARM)
        self._pages: set[int] = set()
        self._next = HIGH
        self._now = 1
        self.blocks: set[int] = set()
        self.during: dict[int, set[int]] = {address: set() for address in watched}
        self._inside: tuple[int, int, set[int]] | None = None
        self._ready: deque[Thread] = deque()
        self._waiting: list[Thread] = []
        self._current, self._threads = 1, 1
        self._switches = False
        self.output = b""
        self.status: int | None = None
        self.refused: set[int] = set()
        for segment in elf.segments:
            if segment.kind == PT_LOAD and segment.memory_size:
                self._put(segment.vma, elf.data[segment.offset : segment.offset + segment.file_size])
                self._put(segment.vma + segment.file_size, bytes(segment.memory_size - segment.file_size))
        at = elf.symbols.addresses("runtime.isarchive", "runtime.rt0_go", "runtime.rt0_go.abi0")
        self._put(at["runtime.isarchive"], b"\0")  # else main.main is not run
        self.entry = at.get("runtime.rt0_go.abi0") or at["runtime.rt0_go"]

    def run(self) -> None:
        """Run to the end."""
        uc, hook = self._uc, self._unicorn
        name = STACK + 0x8000
        self._put(name, b"shapes\0" + bytes(16))
        # argv, NULL, environment, NULL, auxiliary vector: page size, random bytes, end
        table = struct.pack("<10Q", name, 0, 0, 6, 4096, 25, name, 0, 0, 0)
        self._put(STACK, table)
        self._put(STACK - (1 << 20), bytes(1 << 20))
        uc.hook_add(hook.UC_HOOK_BLOCK, lambda uc, at, size, data: self._runs(at))
        uc.hook_add(hook.UC_HOOK_INTR, lambda uc, number, data: self._excepted(number))
        uc.hook_add(hook.UC_HOOK_MEM_UNMAPPED, self._touched)
        self._set("x0", 1)
        self._set("x1", STACK)
        self._set("sp", STACK - 4096)
        self._set("pc", self.entry)
        while self.status is None:
            self._switches = False
            uc.emu_start(self._get("pc"), 0, LIMIT)
            if not self._switches:
                return  # at the end, or at the limit
            thread = self._next_thread()
            if thread is None:
                self.output += b"every thread waits"
                return
            self._current = thread.number
            uc.context_restore(thread.registers)

    def _next_thread(self) -> Thread | None:
        if not self._ready:
            timed = next((each for each in self._waiting if each.timed), None)
            if timed is None:
                return None
            self._waiting.remove(timed)
            self._uc.context_restore(timed.registers)
            self._set("x0", ETIMEDOUT & (1 << 64) - 1)
            self._tick()
            return Thread(timed.number, self._uc.context_save())
        return self._ready.popleft()

    def _leave(self, answer: int, futex: int = 0, timed: bool = False) -> int:
        """Let another thread run; this one goes on when its turn comes, or the futex is woken."""
        self._set("x0", answer)
        thread = Thread(self._current, self._uc.context_save(), futex, timed)
        (self._waiting if futex else self._ready).append(thread)
        self._switches = True
        self._uc.emu_stop()
        return answer

    def _futex(self, at: int, operation: int, value: int, timeout: int, *_: int) -> int:
        if operation & OPERATION == WAITS:
            held = struct.unpack("<I", self._uc.mem_read(at, 4))[0]
            return self._leave(0, at, bool(timeout)) if held == value & 0xFFFF_FFFF else EAGAIN
        woken = [each for each in self._waiting if each.futex == at][:value]
        for each in woken:
            self._waiting.remove(each)
            self._ready.append(each)
        return len(woken)

    def _clone(self, _: int, stack: int, *__: int) -> int:
        """A thread like this one, with a stack of its own and 0 for an answer."""
        self._threads += 1
        before = self._uc.context_save()
        self._set("x0", 0)
        self._set("sp", stack)
        self._ready.append(Thread(self._threads, self._uc.context_save()))
        self._uc.context_restore(before)
        return self._threads

    def _end_thread(self, *_: int) -> int:
        self._switches = True
        self._uc.emu_stop()
        return 0

    def _runs(self, at: int) -> None:
        self.blocks.add(at)
        if self._inside is not None:
            thread, back, noted = self._inside
            if thread == self._current:
                if at == back:
                    self._inside = None
                else:
                    noted.add(at)
        elif at in self.during:
            self.during[at].add(at)
            self._inside = (self._current, self._get("x30"), self.during[at])

    def _excepted(self, number: int) -> None:
        if number != SVC:
            self.output += f"exception {number} at {self._get('pc'):#x}".encode()
            self._uc.emu_stop()
            return
        call, arguments = self._get("x8"), [self._get(f"x{at}") for at in range(6)]
        answer = self._answers().get(call)
        if answer is not None:
            self._set("x0", answer(*arguments) & (1 << 64) - 1)
        elif call in NOTHING or call in IDENTITY:
            self._set("x0", IDENTITY.get(call, 0))
        else:
            self.refused.add(call)
            self._set("x0", ENOSYS & (1 << 64) - 1)

    def _answers(self) -> dict[int, Callable[..., int]]:
        return {
            WRITE: self._write,
            EXIT: self._end_thread,
            EXIT_GROUP: self._exit,
            FUTEX: self._futex,
            NANOSLEEP: lambda *_: self._leave(self._tick()),
            YIELD: lambda *_: self._leave(0),
            CLOCK_GETTIME: lambda _, at, *__: self._put(
                at, struct.pack("<QQ", *divmod(self._tick() or self._now, 10**9))
            ),
            SCHED_GETAFFINITY: lambda _, __, mask, *___: self._put(mask, b"\1" + bytes(7)) + 8,
            CLONE: self._clone,
            MMAP: self._map,
            GETRANDOM: lambda at, size, *_: self._put(at, bytes(range(1, size + 1))) + size,
            OPEN: lambda *_: ENOENT,
            READ: lambda *_: 0,
            READLINK: lambda *_: ENOENT,
        }

    def _write(self, file: int, at: int, size: int, *_: int) -> int:
        self.output += bytes(self._uc.mem_read(at, size))
        return size

    def _exit(self, status: int, *_: int) -> int:
        self.status = status
        self._uc.emu_stop()
        return 0

    def _tick(self) -> int:
        self._now += 1_000_000
        return 0

    def _map(self, at: int, size: int, *_: int) -> int:
        if not at:
            at = self._next
            self._next += size + PAGE - 1 & -PAGE
        return at

    def _touched(self, uc: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
        if address < PAGE:
            return False
        self._there(address, max(size, 1))
        return True

    def _there(self, address: int, size: int) -> None:
        for page in range(address & -PAGE, address + size, PAGE):
            if page not in self._pages:
                self._pages.add(page)
                self._uc.mem_map(page, PAGE)

    def _put(self, address: int, data: bytes) -> int:
        self._there(address, max(len(data), 1))
        self._uc.mem_write(address, bytes(data))
        return 0

    def _get(self, name: str) -> int:
        return int(self._uc.reg_read(getattr(self._arm, f"UC_ARM64_REG_{name.upper()}")))

    def _set(self, name: str, value: int) -> None:
        self._uc.reg_write(getattr(self._arm, f"UC_ARM64_REG_{name.upper()}"), value)
