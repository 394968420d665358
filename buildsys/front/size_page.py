"""`build/size.html`: the memory an image takes, as a picture one can go into, and as tables. It loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from buildsys.front.quantity import amount
from buildsys.front.size_text import percent
from buildsys.sizes.account import KINDS, STACKS, Account, Piece

TEMPLATE = "size.html.j2"
SHOWN = 1000  # symbols of one package in one section; the smaller ones are one tile
Node = dict[str, Any]


def page(found: Account) -> str:
    """The page. Every value is escaped; the data of the picture is JSON no browser takes for markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"amount": amount, "percent": percent}
    columns = [*KINDS, *(f"in {room.name}" for room in found.rooms)]
    packages = sorted(found.by("package").items(), key=lambda each: (-sum(each[1].values()), each[0]))
    rows = [(name, [row.get(each, 0) for each in columns]) for (name,), row in packages]
    data = json.dumps(tree(found), separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template(TEMPLATE).render(
        image=found.image,
        board=found.board,
        rooms=found.rooms,
        columns=columns,
        rows=rows,
        total=[sum(row[at] for _, row in rows) for at in range(len(columns))],
        file=found.file,
        file_size=found.file_size,
        data=data,
    )


def tree(found: Account) -> Node:
    """Regions, their sections, packages, symbols: each node's bytes are the sum of those below it."""
    regions: dict[str, dict[str, dict[str, dict[str, list[Piece]]]]] = {}
    for piece in found.taken:
        section = f"{piece.section or piece.package}{', stored' if piece.stored else ''}"
        packages = regions.setdefault(piece.region, {}).setdefault(section, {})
        packages.setdefault(piece.package, {}).setdefault(piece.symbol, []).append(piece)
    return _node(
        found.image,
        [
            _node(region, [_section(name, packages) for name, packages in sections.items()])
            for region, sections in regions.items()
        ],
    )


def _section(name: str, packages: dict[str, dict[str, list[Piece]]]) -> Node:
    children = [_package(package, symbols) for package, symbols in packages.items()]
    if len(children) == 1 and children[0]["n"] in (name, STACKS):
        return {**children[0], "n": name}
    return _node(name, children)


def _package(name: str, symbols: dict[str, list[Piece]]) -> Node:
    leaves: list[Node] = [
        {"n": symbol or name, "s": sum(piece.size for piece in pieces), "k": pieces[0].kind}
        for symbol, pieces in symbols.items()
    ]
    leaves.sort(key=lambda each: (-each["s"], each["n"]))
    if len(leaves) == 1 and leaves[0]["n"] == name:
        return leaves[0]
    if rest := leaves[SHOWN:]:
        small = {"n": f"{len(rest)} smaller ones", "s": sum(each["s"] for each in rest), "k": rest[0]["k"]}
        leaves = [*leaves[:SHOWN], small]
    return _node(name, leaves)


def _node(name: str, children: list[Node]) -> Node:
    ordered = sorted(children, key=lambda each: (-each["s"], each["n"]))
    return {"n": name, "s": sum(each["s"] for each in children), "k": ordered[0]["k"] if ordered else "", "c": ordered}
