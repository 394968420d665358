"""The last line of a run that has an identity: the supervisor's, who alone knows it (src/supervisor/given.go, sign).

It holds the identity, the status, and how many bytes the program wrote and which. What a program
writes can look like a test that passed; it cannot look like this.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SIGNATURE = "supervisor: run "
_END = rb"\r\nsupervisor: run (\S+) ended with status (\d+) after (\d+) bytes, FNV-1a (0x\w+)\r\n"
# What follows the program's own bytes: each of the supervisor's lines says that it is one.
_REST = re.compile(rb"((?:supervisor: [^\n]*\n)*)" + _END)
_BASIS, _PRIME, _ALL = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class Signed(NamedTuple):
    """A run that came to its end: the program's status, what it wrote, and what the supervisor had to say after it."""

    status: int
    written: bytes
    remarks: str


class UnsignedError(Exception):
    """The end of a run did not arrive, or not all that came before; the text says what."""


def signed(serial: bytes, identity: str) -> Signed:
    """What `serial`, all that was received, holds. Raises UnsignedError unless it is complete and of this run."""
    lines = re.findall(_END, serial)
    if not lines:
        raise UnsignedError("the end of the run did not arrive")
    name, status, count, checksum = lines[-1]
    if name.decode("ascii", "replace") != identity:
        raise UnsignedError(f"this is the end of another run, {name.decode('ascii', 'replace')}")
    length = int(count)
    written = serial[:length]
    if len(written) < length or fnv(written) != int(checksum, 16):
        raise UnsignedError(f"of the {length} bytes that were written some were lost or changed")
    rest = _REST.fullmatch(serial, length)
    if rest is None:
        raise UnsignedError("more arrived than was written")
    return Signed(int(status), written, rest[1].decode("utf-8", "replace").replace("\r\n", "\n").strip())


def fnv(data: bytes) -> int:
    """The FNV-1a hash of 64 bits: draft-eastlake-fnv."""
    found = _BASIS
    for byte in data:
        found = ((found ^ byte) * _PRIME) & _ALL
    return found
