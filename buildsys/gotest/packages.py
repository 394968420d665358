"""Which packages a pattern names, and what the go command knows of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildsys.errors import UserError
from buildsys.go.build import located, run
from buildsys.go.toolchain import GoToolchain

FIELDS = ("Dir", "ImportPath", "Module", "Standard", "TestGoFiles", "XTestGoFiles")


@dataclass(frozen=True)
class Package:
    """A package: its import path, its folder, and that of its module (of the standard library, `src` in the Go tree).

    `path` is the module's own; `tested` tells whether there are test files.
    """

    name: str
    folder: Path
    module: Path
    path: str
    standard: bool
    tested: bool


def packages(go: GoToolchain, folder: Path, patterns: Sequence[str], tags: Sequence[str]) -> list[Package]:
    """The packages that `patterns` name as seen from `folder`, in the go command's order. Raises UserError."""
    command = [str(go.command), "list", f"-json={','.join(FIELDS)}"]
    command += [f"-tags={','.join(tags)}"] if tags else []
    done = run(go, [*command, "--", *patterns], folder)
    said = located(done.stderr.strip(), folder)
    if done.returncode:
        raise UserError(f"go list {' '.join(patterns)} failed in {folder}\n{said}")
    found = [_package(entry, go.root / "src") for entry in _entries(done.stdout)]
    if not found:
        raise UserError(
            f"no package is named by {' '.join(patterns)}, as seen from {folder}", "`./...` names all of it"
        )
    return found


def _package(entry: dict[str, Any], standard: Path) -> Package:
    module = entry.get("Module") or {}
    within = Path(module["Dir"]) if module.get("Dir") else standard if entry.get("Standard") else Path(entry["Dir"])
    return Package(
        entry["ImportPath"],
        Path(entry["Dir"]),
        within,
        module.get("Path", ""),
        bool(entry.get("Standard")),
        bool(entry.get("TestGoFiles") or entry.get("XTestGoFiles")),
    )


def _entries(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
