"""What the runtime in a Go object asks of the image: read from the object, kept as `runtime.json`, and read again."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.files import replace
from buildsys.formats.elf import Elf
from buildsys.go.layout import layouts
from buildsys.go.runtime import Barrier, Plan, plan
from buildsys.go.sets import Taken
from buildsys.stages.originals import called


def describe_runtime(go_object: Path, output: Path, sets: Collection[str] = (), allocator: str = "") -> None:
    """Write what an image must know of the object's runtime: field offsets, functions to take over.

    And which originals of redirected functions it calls by name. `sets` are the names of the ready sets. Raises
    UserError if `allocator`, a function of Go's by its name, is not there.
    """
    elf = Elf.mapped(go_object)
    functions = set(elf.symbols.names_of_functions())
    if "." in allocator and allocator not in functions:
        from difflib import get_close_matches

        near = get_close_matches(allocator, functions, 1)
        raise UserError(
            f"`alloc` names {allocator}, and there is no such function in {go_object}",
            (f"did you mean {near[0]}? " if near else "")
            + "Go keeps only what main.main can reach, and may put a small function into its callers (//go:noinline)",
        )
    found = plan(functions, str(go_object), sets)
    described = {"offsets": layouts(elf), "plan": asdict(found), "originals": called(elf)}
    replace(output, json.dumps(described, indent=1).encode() + b"\n")


def read_originals(path: Path) -> list[str]:
    """The names by which the Go object calls originals, as `describe_runtime` wrote them."""
    found: list[str] = json.loads(path.read_text("utf-8")).get("originals", [])
    return found


def read_runtime(path: Path) -> tuple[dict[str, int], Plan]:
    """What `describe_runtime` wrote: (offsets by field, plan)."""
    described = json.loads(path.read_text("utf-8"))
    stored = described["plan"]
    return described["offsets"], Plan(
        barriers=tuple(Barrier(**each) for each in stored["barriers"]),
        readers=tuple(stored["readers"]),
        fatal=tuple(stored["fatal"]),
        sets=tuple(_taken(each) for each in stored["sets"]),
    )


def _taken(stored: dict[str, Any]) -> Taken:
    lists = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
    return Taken(**(stored | lists))
