"""What `doit size` prints: tables of bytes, each with its sum; the same on a terminal as in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from buildsys.front.quantity import amount
from buildsys.sizes.account import BETWEEN, KINDS, NAMELESS, PADDING, STACK, Account
from buildsys.sizes.change import Change, changes

TABLES = ("region", "section", "package", "symbol", "file")
USUAL = ("region", "section", "package")
MOST = 15  # rows of a long table that are shown without being asked for
SUM = "all of it"
Row = Sequence[str]


def tables(found: Account, by: Sequence[str], every: bool, patterns: Sequence[str]) -> list[str]:
    """The tables asked for; with `patterns`, packages and symbols that match one, and the others as one row."""
    makes = {
        "region": lambda: _regions(found),
        "section": lambda: _sections(found),
        "package": lambda: _packages(found, every, patterns),
        "symbol": lambda: _symbols(found, every, patterns),
        "file": lambda: _file(found),
    }
    chosen = by or (("symbol",) if patterns else USUAL)
    lines = [f"{found.image} for {found.board}"]
    for name in TABLES:
        if name in chosen:
            lines += ["", *makes[name]()]
    return lines


def comparison(before: Account, now: Account, what: str, every: bool) -> list[str]:
    """What changed, by region, package and symbol; what grew has a plus before it."""
    lines = [f"{now.image} for {now.board}, compared with {what}" + _other_board(before, now)]
    for title, fields in (("region", ("region",)), ("package", ("package",)), ("symbol", ("package", "symbol"))):
        rows = changes(before, now, *fields)
        lines += ["", *_changed(title, rows, every)]
    return lines


def changes_as_json(before: Account, now: Account) -> dict[str, Any]:
    """The changes by region, package and symbol, those of what is the same left out."""
    found: dict[str, Any] = {}
    for title, fields in (
        ("regions", ("region",)),
        ("packages", ("package",)),
        ("symbols", ("package", "section", "symbol")),
    ):
        found[title] = [
            {**dict(zip(fields, row.name, strict=True)), "before": row.before, "now": row.now, "change": row.delta}
            for row in changes(before, now, *fields)
            if row.delta
        ]
    return found


def percent(share: float) -> str:
    """A share, 0 to 1, as people read it."""
    return f"{share:.1%}".replace("%", " %")


def _regions(found: Account) -> Iterator[str]:
    rows = [
        (room.name, f"{room.used:,}", f"{room.length:,}", percent(room.share), amount(room.length - room.used))
        for room in found.rooms
    ]
    yield from _table(("region", "used", "of", "share", "left"), rows, "<>>>>")


def _sections(found: Account) -> Iterator[str]:
    """Each region's sections in the order of their addresses, its sum, and its paddings as one row."""
    rows: list[Row] = []
    for room in found.rooms:
        parts: dict[tuple[str, str, bool], list[int]] = {}
        for piece in found.taken:
            if piece.region == room.name:
                section = piece.section or BETWEEN
                part = parts.setdefault((section, piece.kind, piece.stored), [piece.address, 0])
                part[1] += piece.size
        for (section, kind, stored), (address, size) in parts.items():
            at = "" if kind == PADDING else f"{address:#010x}"
            what = f"{kind}, stored" if stored else "" if kind in (PADDING, STACK) else kind
            rows.append((room.name, section, what, at, f"{size:,}"))
        rows.append((room.name, SUM, "", "", f"{room.used:,}"))
    yield from _table(("region", "section", "kind", "from", "bytes"), rows, "<<<<>")


def _packages(found: Account, every: bool, patterns: Sequence[str]) -> Iterator[str]:
    """Kinds count bytes where they are at run time, regions wherever they take room."""
    columns = [*KINDS, *(f"in {room.name}" for room in found.rooms)]
    table = {key[0]: [row.get(each, 0) for each in columns] for key, row in found.by("package").items()}
    total = [sum(row[at] for row in table.values()) for at in range(len(columns))]
    ordered = sorted(table.items(), key=lambda each: (-sum(each[1][len(KINDS) :]), each[0]))
    shown, rest = _chosen(ordered, every, patterns, lambda each: (each[0],))
    rows = [[*(f"{value:,}" for value in row), name] for name, row in shown]
    if rest:
        sums = [sum(row[at] for _, row in rest) for at in range(len(columns))]
        rows.append([*(f"{value:,}" for value in sums), f"({len(rest)} more)"])
    rows.append([*(f"{value:,}" for value in total), SUM])
    yield from _table((*columns, "package"), rows, ">" * len(columns) + "<")


def _symbols(found: Account, every: bool, patterns: Sequence[str]) -> Iterator[str]:
    table: dict[tuple[str, str, str], int] = {}
    for piece in found.taken:
        kind = f"{piece.kind}, stored" if piece.stored else piece.kind
        key = (kind, piece.package, piece.symbol)
        table[key] = table.get(key, 0) + piece.size
    ordered = sorted(table.items(), key=lambda each: (-each[1], each[0]))
    shown, rest = _chosen(ordered, every, patterns, lambda each: each[0][1:])
    rows = [(f"{size:,}", kind, package, symbol or "-") for (kind, package, symbol), size in shown]
    if rest:
        rows.append((f"{sum(size for _, size in rest):,}", "", "", f"({len(rest)} more)"))
    rows.append((f"{sum(table.values()):,}", "", "", SUM))
    yield from _table(("bytes", "kind", "package", "symbol"), rows, "><<<")


def unmatched(found: Account, patterns: Sequence[str]) -> str:
    """The first of `patterns` that no package or symbol matches; empty if there is none."""
    names = {name for piece in found.taken for name in (piece.package, piece.symbol)}
    return next((each for each in patterns if not any(fnmatchcase(name, each) for name in names)), "")


def _file(found: Account) -> Iterator[str]:
    rows = [(f"{size:,}", name) for name, size in found.file]
    yield from _table(("bytes", "part of the file"), [*rows, (f"{found.file_size:,}", SUM)], "><")


def _chosen(rows: Sequence[Any], every: bool, patterns: Sequence[str], named: Any) -> tuple[list[Any], list[Any]]:
    """Those to show, and the others: of those that match a pattern, or of all, the first few or every one."""

    def matches(row: Any) -> bool:
        return any(fnmatchcase(name, pattern) for name in named(row) for pattern in patterns)

    wanted = [row for row in rows if matches(row)] if patterns else list(rows)
    others = [row for row in rows if not matches(row)] if patterns else []
    few = len(wanted) if every or len(wanted) <= MOST + 1 else MOST
    return wanted[:few], [*wanted[few:], *others]


def _changed(title: str, rows: Sequence[Change], every: bool) -> Iterator[str]:
    changed = [row for row in rows if row.delta or title == "region"]
    shown = changed if every or len(changed) <= MOST + 1 else changed[:MOST]
    told = [(signed(row.delta), f"{row.before:,}", f"{row.now:,}", _name(row)) for row in shown]
    for rest, words in ((changed[len(shown) :], "more that changed"), ([r for r in rows if r not in changed], "same")):
        if rest:
            before, now = sum(row.before for row in rest), sum(row.now for row in rest)
            name = f"({len(rest)} {words})" if words != "same" else f"({len(rest)} that did not change)"
            told.append((signed(now - before), f"{before:,}", f"{now:,}", name))
    before, now = sum(row.before for row in rows), sum(row.now for row in rows)
    told.append((signed(now - before), f"{before:,}", f"{now:,}", SUM))
    yield from _table(("change", "before", "now", title), told, ">>><")


def _name(row: Change) -> str:
    name = row.name[-1] or next((each for each in row.name if each), NAMELESS)
    return f"{name} (new)" if not row.before and row.now else f"{name} (gone)" if row.before and not row.now else name


def signed(count: int) -> str:
    """A change in bytes: with its sign, also a plus; 0 has none."""
    return f"{count:+,}" if count else "0"


def _other_board(before: Account, now: Account) -> str:
    return f", which was for {before.board}" if before.board != now.board else ""


def _table(head: Row, rows: Iterable[Row], aligned: str) -> Iterator[str]:
    """Columns with two spaces between them; numbers under one another."""
    lines = [head, *rows]
    widths = [max(len(row[at]) for row in lines) for at in range(len(head))]
    for row in lines:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True))
        yield "  ".join(cells).rstrip()
