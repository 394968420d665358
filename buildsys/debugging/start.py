"""Read by gdb (`source`): makes buildsys known to gdb's Python, without what else is installed beside it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OLDEST = (3, 11)


def buildsys_begin(image: str, roots: list[tuple[str, str]], goroot: str, kept: str) -> None:
    """Define the commands, for what is told: buildsys.debugging.commands, begin."""
    if sys.version_info < OLDEST:
        print(f"warning: gdb's Python is {sys.version.split()[0]}: the commands of buildsys need 3.11 or newer")
        return
    from buildsys.debugging.commands import begin

    begin(image, roots, goroot, kept)


if sys.version_info >= OLDEST and "buildsys" not in sys.modules:
    folder = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "buildsys", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["buildsys"] = module
    spec.loader.exec_module(module)
