"""A run on QEMU seen from outside: blocks of code logged as they are entered, memory read through its gdb stub.

Neither asks anything of the guest, and neither writes to it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from buildsys.errors import UserError
from buildsys.machines import gdb_remote, qemu
from buildsys.machines.outcome import End, Outcome, ending
from buildsys.machines.semihosting import SYS_EXIT, SYS_EXIT_EXTENDED, calls_in
from buildsys.proof.observation import QEMU, Observation, finished, patience

if TYPE_CHECKING:
    from buildsys.proof.case import Case

# "Trace 0: 0x7f… [flags/pc/flags/flags] symbol", then the registers before the block runs; and
# "Stopped execution of TB chain before 0x7f… [pc] symbol" if it did not run then, but will be logged again.
_BLOCK = re.compile(
    rb"Trace [^\[\n]*\[[0-9a-f]+/([0-9a-f]+)/.*?\bX30=([0-9a-f]{16})[^\n]*\nPSTATE=[^\n]*\n"
    rb"|Stopped execution of TB chain before [^\n]*\n",
    re.DOTALL,
)
RECORD = 1 << 16  # bytes: what is longer is no record
NEAR = 0x200  # words this near to each other are read at once


def observe_qemu(case: Case) -> Observation | None:
    """The same as observe_embedded() on QEMU; also reads the words that were stored to. None without QEMU."""
    try:
        qemu.program()
    except UserError:
        return None
    outcome = finished(qemu.run(case.image, case.board, case.time_limit, dead_ends=case.dead_ends))
    if outcome.end is End.EMULATOR:
        return Observation(QEMU, outcome, lambda _: None)
    limit = patience(case, outcome)
    counted, executions, originals = _traced(case, limit)
    words = {*case.followed.destinations, *([] if case.places.head is None else [case.places.head])}
    try:
        flags, found = _stopped(case, words, limit)
    except gdb_remote.RemoteError as error:
        raise UserError(f"{QEMU}'s memory cannot be read: {error}") from error
    return Observation(
        machine=QEMU,
        outcome=outcome,
        word=found.get,
        flag_at_store=flags.get("store"),
        flag_at_entry=flags.get("entry"),
        executions=executions,
        originals=originals,
        complete=counted.end is outcome.end,
    )


def _traced(case: Case, limit: float) -> tuple[Outcome, Counter[tuple[str, int]], Counter[tuple[str, int]]]:
    """Calls of our functions and of the originals, as QEMU logs each block of code it enters in their ranges."""
    seen = case.places
    ranges = [
        *(f"{address:#x}+0x4" for address in seen.ours),
        *(f"{place.start:#x}+{len(place):#x}" for place in seen.originals),
    ]
    reading, writing = os.pipe()
    blocks: Counter[tuple[int, int]] = Counter()
    thread = threading.Thread(
        target=_read_trace, args=(reading, blocks, case.board.until), name="QEMU's log", daemon=True
    )
    thread.start()
    try:
        # Blocks chained to each other would not come back to be logged.
        file = f"/proc/{os.getpid()}/fd/{writing}"
        log = ("-d", "exec,cpu,nochain", "-dfilter", ",".join(ranges), "-D", file)
        outcome = finished(qemu.run(case.image, case.board, limit, extra=log, copied=file if case.board.until else ""))
    finally:
        os.close(writing)
        thread.join()
    executions: Counter[tuple[str, int]] = Counter()
    originals: Counter[tuple[str, int]] = Counter()
    for (address, link), count in blocks.items():
        if address in seen.ours:
            executions[seen.ours[address], link - 4] += count
        else:
            name = next(name for place, name in seen.originals.items() if address in place)
            originals[name, link - 4] += count
    return outcome, executions, originals


def _read_trace(reading: int, blocks: Counter[tuple[int, int]], until: bytes) -> None:
    """Count blocks by address and x30 as they are logged: there may be gigabytes of it.

    What the guest sends stands between the records, where it was sent: behind `until` nothing counts.
    """
    pending, last = b"", (0, 0)
    sent, over = bytearray(), False
    with os.fdopen(reading, "rb") as stream:
        while data := stream.read1(1 << 20):
            if over:
                continue  # QEMU would wait for room in the pipe
            pending += data
            end = 0
            for found in _BLOCK.finditer(pending):
                if until:
                    sent += pending[end : found.start()]
                    over = ending(sent, until, 0) > 0
                    del sent[: -len(until)]
                if over:
                    break
                end = found.end()
                if found[1]:
                    last = int(found[1], 16), int(found[2], 16)
                    blocks[last] += 1
                else:
                    blocks[last] -= 1
            kept = max(end, len(pending) - RECORD)
            sent += pending[end:kept] if until else b""
            pending = pending[kept:]


def _stopped(case: Case, words: Iterable[int], limit: float) -> tuple[dict[str, int], dict[int, int]]:
    """The flag at boot code's store and at the entry; `words` when the guest is about to exit, or hangs."""
    once: dict[int, str] = {}
    seen = case.places
    if seen.flag is not None:
        once |= {seen.store.address: "store"} if seen.store else {}
        once |= {seen.entry: "entry"} if seen.entry is not None else {}
    flags: dict[str, int] = {}
    with gdb_remote.halted(case.image, case.board) as remote:
        for address in {*once, *calls_in(case.elf)}:
            remote.stop_at(address)
        deadline = time.monotonic() + limit
        try:
            while remote.run(deadline - time.monotonic()):
                registers = remote.registers()
                pc = registers["pc"]
                if remote.said.is_set():
                    return flags, _read(remote, words)
                remote.pass_by(pc)
                if pc in once and seen.flag is not None:
                    flags[once.pop(pc)] = int.from_bytes(remote.read(seen.flag, 4), "little")
                elif registers["x0"] & 0xFFFF_FFFF in (SYS_EXIT, SYS_EXIT_EXTENDED):
                    return flags, _read(remote, words)
                elif remote.step():
                    remote.stop_at(pc)
                else:
                    break
        except TimeoutError:
            return flags, _read(remote, words)
    return flags, {}


def _read(remote: gdb_remote.Remote, addresses: Iterable[int]) -> dict[int, int]:
    """The 64-bit words at `addresses`; those at which the guest sees no memory are left out."""
    found: dict[int, int] = {}
    low, block = 0, b""
    ordered = sorted(addresses)
    for at, address in enumerate(ordered):
        if not low <= address <= low + len(block) - 8:
            last = max(each for each in ordered[at:] if each <= address + NEAR)
            low = address
            try:
                block = remote.read(address, last + 8 - address)
            except gdb_remote.RemoteError:
                block = b""
                continue
        found[address] = int.from_bytes(block[address - low : address - low + 8], "little")
    return found
