"""Recorded barrier calls as rows of a report: which store each pointer is of, with names where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildsys.barriers.pairing import Pairing, pairing
from buildsys.barriers.places import Place, places
from buildsys.barriers.records import Record, Records
from buildsys.formats.elf import Elf
from buildsys.go.runtime import Plan

Row = dict[str, Any]


def described(elf: Elf, plan: Plan, records: Records) -> list[Row]:
    """A row for each record, oldest first."""
    known = places(elf, {record.site for record in records.kept})
    named = elf.symbols.named(*plan.collecting)
    ours = {each.value: name for name, found in named.items() for each in found if each.is_global}
    pairs: dict[tuple[int, int], Pairing] = {}
    rows = []
    for record in records.kept:
        key = record.site, len(record.slots)
        if plan.abi == "slots" and key not in pairs:
            pairs[key] = pairing(elf, *key, ours)
        rows.append(_row(known[record.site], record, pairs.get(key)))
    return rows


def _row(place: Place, record: Record, pairs: Pairing | None) -> Row:
    """`pairs` is None where the barrier makes the store itself: it recorded the new, the old pointer, and the place."""
    slots = record.slots
    stores: list[dict[str, str | None]]
    if pairs is None:
        stores = [{"to": _hex(slots[2]), "old": _hex(slots[1]), "new": _hex(slots[0])}]
        others: list[str | None] = []
    else:
        stores = [
            {
                "to": _hex(each.to),
                "old": None if each.old is None else _hex(slots[each.old]),
                "new": _hex(each.value if each.new is None else slots[each.new]),
            }
            for each in pairs.stores
        ]
        others = [_hex(slots[slot]) for slot in pairs.others]
    return {
        "site": hex(place.address),
        "barrier": place.called,
        "function": place.function,
        "line": place.line,
        "stores": stores,
        "pointers": others,
        "unwritten": sum(slot is None for slot in slots),
    }


def lines(records: Records, rows: Sequence[Row], shown: int) -> list[str]:
    """The newest `shown` records, a line for each store."""
    last = rows[-shown:]
    head = f"barriers: {records.calls} call{'' if records.calls == 1 else 's'}, the last {len(rows)} kept"
    if not last:
        return [head]
    wide = max(len(row["line"] or row["site"]) for row in last)
    longest = max(len(row["function"]) for row in last)
    found = [f"{head}; the newest {len(last)}, the last one last:"]
    for row in last:
        place = f"  {row['line'] or row['site']:{wide}}  {row['function']:{longest}}"
        for each in row["stores"]:
            to = f", to {each['to']}" if each["to"] else ""
            found.append(f"{place}  {_shown(each['old'])} → {_shown(each['new'])}{to}")
        if row["pointers"]:
            pointers = ", ".join(_shown(each) for each in row["pointers"])
            found.append(f"{place}  {pointers}: which is old and which is new cannot be told")
        if row["unwritten"]:
            found.append(f"{place}  an exception came before its pointers were written")
    return found


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


def _shown(value: str | None) -> str:
    return "?" if value is None else "nil" if value == "0x0" else value
