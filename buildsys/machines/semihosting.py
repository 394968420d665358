"""Arm semihosting for AArch64: `hlt #0xf000` with an operation in w0 and its argument in x1.

Only what a kernel without a host needs: exiting, and writing to the console. No
operation reaches the host's files. Source: Arm, Semihosting for AArch32 and AArch64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildsys.formats.elf import Elf

INSTRUCTION = 0xD45E0000  # hlt #0xf000

SYS_OPEN, SYS_CLOSE, SYS_WRITEC, SYS_WRITE0, SYS_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05
SYS_EXIT, SYS_EXIT_EXTENDED = 0x18, 0x20
APPLICATION_EXIT = 0x20026  # ADP_Stopped_ApplicationExit: the one reason with an exit code

CONSOLE_NAME = b":tt"
CONSOLE = 1  # the handle SYS_OPEN gives for it
LONGEST_TEXT = 1 << 20
NO_RESULT = 0xDEADBEEF  # SYS_WRITEC and SYS_WRITE0 corrupt x0; QEMU does it with this

_NAMES = {
    SYS_OPEN: "SYS_OPEN", SYS_CLOSE: "SYS_CLOSE", SYS_WRITEC: "SYS_WRITEC", SYS_WRITE0: "SYS_WRITE0",
    SYS_WRITE: "SYS_WRITE", 0x06: "SYS_READ", 0x07: "SYS_READC", 0x08: "SYS_ISERROR", 0x09: "SYS_ISTTY",
    0x0A: "SYS_SEEK", 0x0C: "SYS_FLEN", 0x0D: "SYS_TMPNAM", 0x0E: "SYS_REMOVE", 0x0F: "SYS_RENAME",
    0x10: "SYS_CLOCK", 0x11: "SYS_TIME", 0x12: "SYS_SYSTEM", 0x13: "SYS_ERRNO", 0x15: "SYS_GET_CMDLINE",
    0x16: "SYS_HEAPINFO", SYS_EXIT: "SYS_EXIT", SYS_EXIT_EXTENDED: "SYS_EXIT_EXTENDED",
    0x30: "SYS_ELAPSED", 0x31: "SYS_TICKFREQ",
}  # fmt: skip


@dataclass(frozen=True)
class Exit:
    """The guest ended the run with `code`, 0 to 255."""

    code: int


@dataclass(frozen=True)
class Result:
    """The operation is done; `value` goes to x0."""

    value: int


class RefusedError(Exception):
    """The operation cannot be carried out; the text says which and why."""


def call(
    operation: int, argument: int, read: Callable[[int, int], bytes | None], console: Callable[[bytes], None]
) -> Exit | Result:
    """Carry out one operation. Raises RefusedError.

    `read(address, size)` reads the guest's memory, None where there is none.
    """

    def words(count: int) -> tuple[int, ...]:
        block = bytes_at(argument, 8 * count)
        return tuple(int.from_bytes(block[at : at + 8], "little") for at in range(0, 8 * count, 8))

    def bytes_at(address: int, size: int) -> bytes:
        data = read(address, size)
        if data is None:
            raise RefusedError(f"semihosting {name(operation)}: there is no memory at {address:#x}")
        return data

    if operation in (SYS_EXIT, SYS_EXIT_EXTENDED):
        reason, code = words(2)
        # A process's exit status has 8 bits: what QEMU can tell, and its own rule, that
        # every reason but an application's exit is failure 1.
        return Exit(code & 0xFF if reason == APPLICATION_EXIT else 1)
    if operation == SYS_WRITEC:
        console(bytes_at(argument, 1))
        return Result(NO_RESULT)
    if operation == SYS_WRITE0:
        text = bytearray()
        while (byte := bytes_at(argument + len(text), 1)) != b"\0":
            text += byte
            if len(text) > LONGEST_TEXT:
                raise RefusedError(f"semihosting {name(operation)}: no zero byte ends the text at {argument:#x}")
        console(bytes(text))
        return Result(NO_RESULT)
    if operation == SYS_OPEN:
        address, _mode, length = words(3)
        opened = bytes_at(address, length)
        if opened != CONSOLE_NAME:
            raise RefusedError(f"semihosting SYS_OPEN of {opened!r}: only the console, ':tt', can be opened here")
        return Result(CONSOLE)
    if operation == SYS_WRITE:
        handle, address, length = words(3)
        if handle == CONSOLE:
            console(bytes_at(address, length))
            return Result(0)
        raise RefusedError(f"semihosting SYS_WRITE to handle {handle}, which was not opened")
    if operation == SYS_CLOSE:
        return Result(0)
    raise RefusedError(f"semihosting operation {name(operation)} is not supported by the embedded emulator")


def calls_in(elf: Elf) -> list[int]:
    """The address of every semihosting call in an image's code."""
    wanted, found = INSTRUCTION.to_bytes(4, "little"), []
    for section in elf.code:
        contents, at = elf.contents(section), -1
        while (at := contents.find(wanted, at + 1)) >= 0:
            if at % 4 == 0:
                found.append(section.address + at)
    return found


def name(operation: int) -> str:
    """The operation's name and number."""
    return f"{_NAMES.get(operation, 'unknown')} ({operation:#x})"
