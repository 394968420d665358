"""How full the board's memory is, told at the end of a build: from what the patch step noted, in microseconds."""

from __future__ import annotations

from collections.abc import Sequence

from buildsys.config.board import PAGE, Board
from buildsys.front.lines import NAME
from buildsys.front.quantity import amount


def taken(sections: Sequence[Sequence[int]], board: Board, guarded: bool) -> list[tuple[str, int, int]]:
    """(region, bytes taken, bytes there are) of each region an image may use.

    `sections` are (address, where it is stored, size) of each that takes memory. Stacks follow the last of
    them in RAM, on a page of their own, each behind a guard if they are `guarded`: linker/kernel.ld.j2.
    """
    guard = PAGE if guarded else 0
    ends = [address + size for address, _, size in sections if address in board.ram]
    last = _page(max(ends, default=board.bss)) + guard + board.exception_stack
    last = (_page(last) + guard if guarded else last) + board.stack
    if board.code == board.ram:
        low = min(board.text, board.bss)
        return [(board.ram.name, last - low, board.ram.end - low)]
    stored = max((at + size for _, at, size in sections if at in board.code), default=board.text)
    return [
        (board.code.name, stored - board.text, board.code.end - board.text),
        (board.ram.name, last - board.bss, board.ram.end - board.bss),
    ]


def _page(address: int) -> int:
    """The first page that does not begin below `address`."""
    return -(-address // PAGE) * PAGE


def memory_line(sections: Sequence[Sequence[int]], board: Board, guarded: bool) -> str:
    """That in words, as a line below those of the steps."""
    told = (
        f"{name} {used / 1024:.0f} KiB of {amount(room)}, {100 * used / room:.1f} %"
        for name, used, room in taken(sections, board, guarded)
    )
    return f"{'memory':{NAME}} {'; '.join(told)}"
