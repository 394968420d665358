"""How full the board's memory is, told at the end of a build: from what the patch step noted, in microseconds."""

from __future__ import annotations

from collections.abc import Sequence

from buildsys.config.board import PAGE, Board
from buildsys.front.lines import NAME
from buildsys.front.quantity import amount


def taken(sections: Sequence[Sequence[int]], board: Board) -> list[tuple[str, int, int]]:
    """(region, bytes taken, bytes there are) of each region an image may use.

    `sections` are (address, where it is stored, size) of each that takes memory. Stacks follow the last of
    them in RAM, on a page of their own: linker/kernel.ld.j2.
    """
    ends = [address + size for address, _, size in sections if address in board.ram]
    last = -(-max(ends, default=board.bss) // PAGE) * PAGE + board.exception_stack + board.stack
    if board.code == board.ram:
        low = min(board.text, board.bss)
        return [(board.ram.name, last - low, board.ram.end - low)]
    stored = max((at + size for _, at, size in sections if at in board.code), default=board.text)
    return [
        (board.code.name, stored - board.text, board.code.end - board.text),
        (board.ram.name, last - board.bss, board.ram.end - board.bss),
    ]


def memory_line(sections: Sequence[Sequence[int]], board: Board) -> str:
    """That in words, as a line below those of the steps."""
    told = (
        f"{name} {used / 1024:.0f} KiB of {amount(room)}, {100 * used / room:.1f} %"
        for name, used, room in taken(sections, board)
    )
    return f"{'memory':{NAME}} {'; '.join(told)}"
