"""A memory map as a few lines of text: one column for each region that shares addresses with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Range = tuple[str, str, int, int]  # name, kind, first address, first address after it
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def drawing(ranges: Sequence[Range], marks: Mapping[int, str]) -> str:
    """`ranges`, lowest address first, where each begins and ends; what two of them share is drawn with #.

    `marks` are addresses to be shown beside them, with what is to be said of each.
    """
    lanes = _lanes(ranges)
    width = max(lanes.values(), default=0) + 1
    rows: list[tuple[str, str, str]] = []  # address, columns, words
    edges = sorted({edge for _, _, low, high in ranges for edge in (low, high)} | marks.keys())
    for at, address in enumerate(edges):
        columns, words = [" "] * width, []
        for each in ranges:
            name, kind, low, high = each
            if low < address < high and columns[lanes[each]] == " ":
                columns[lanes[each]] = "|"
            elif address in (low, high):
                columns[lanes[each]] = "+"
            if address == low:
                words.append(f"{name} ({kind}, {size(high - low)})")
        ends = [f"{name} ends" for name, _, _, high in ranges if high == address]
        if not words or width > 1:  # where the next begins says enough of the end of one alone
            words = ends + words
        words += [f"<-- {marks[address]}"] if address in marks else []
        rows.append((f"{address:#012x}", " ".join(columns), ", ".join(words)))
        following = edges[at + 1] if at + 1 < len(edges) else address
        inside = [each for each in ranges if each[2] <= address and following <= each[3] and following > address]
        if len(inside) > 1:
            columns = [" "] * width
            for each in inside:
                columns[lanes[each]] = "#"
            names = " and ".join(each[0] for each in inside)
            rows.append((" " * 12, " ".join(columns), f"{names} share {size(following - address)}"))
    return "\n".join(f"  {address}  {columns}  {words}".rstrip() for address, columns, words in rows)


def _lanes(ranges: Sequence[Range]) -> dict[Range, int]:
    """A column for each range: the first that no range still open there has."""
    lanes: dict[Range, int] = {}
    ends: list[int] = []
    for each in sorted(ranges, key=lambda each: (each[2], each[3])):
        lane = next((lane for lane, end in enumerate(ends) if end <= each[2]), len(ends))
        ends[lane : lane + 1] = [each[3]]
        lanes[each] = lane
    return lanes


def size(count: int) -> str:
    """A number of bytes in the largest unit that has a whole number of it, if that is a short one."""
    for unit, name in UNITS:
        if count % unit == 0 and 0 < count // unit < 10000:
            return f"{count // unit} {name}"
    return f"{count:#x} bytes"
