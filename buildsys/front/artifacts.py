"""Where everything of one kernel lies: its artifacts, the tools that make them, the records of having done so."""

from __future__ import annotations

import sys
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys.cache.action import Action, Records
from buildsys.cache.caches import Caches
from buildsys.cache.key import Places
from buildsys.config.barrier import COUNT
from buildsys.config.project import PACKAGE, Project, shipped
from buildsys.go import sets
from buildsys.go import toolchain as go_toolchain
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.variant import SHIPPED, Variant
from buildsys.toolchains import choice, zig
from buildsys.toolchains.binary import BinaryToolchain

if TYPE_CHECKING:
    from buildsys.stages.programs import Placed

OWN = "own"  # the folder in the build folder where what comes of the user's own assembly is
RENDERED = ".s.j2"
TEMPLATES = ("boot.s", "constants.s", "writebarrier.s", "fatal.s")
OF_PROGRAMS = "supervisor.s"  # and this of a program


class Artifacts:
    """The files of one kernel of a project; every path is relative to the project's root, the working folder."""

    def __init__(self, project: Project, variant: Variant = SHIPPED, caches: Caches | None = None) -> None:
        self.project, self.variant = project, variant
        self._told = False
        build = project.build
        self.records = Records(build / ".done", caches, lambda: self.places, self._waiting)
        self.archive, self.compiled = build / "kernel.a", build / "go.o"
        # The kernel's: of a program that is the supervisor, and what was compiled is linked in beside it.
        self.go_object = build / "supervisor.go.o" if project.program else self.compiled
        self.program_object, self.program_json = build / "program.go.o", build / "program.json"
        self.runtime_json, self.binding = build / "runtime.json", build / "binding.json"
        self.linked = build / ".linked.elf"
        self.unpatched, self.image = build / "kernel.unpatched.elf", build / "kernel.elf"
        self.patch_json = build / "patch.json"
        # The image of the build before the last one, to compare with.
        self.previous = build / ".before" / "kernel.elf"
        self.directives = build / "directives.json"
        of_programs = (OF_PROGRAMS,) if project.program else ()
        self.templates = (*TEMPLATES, *of_programs, *sets.templates(project.sets))

    @cached_property
    def go(self) -> GoToolchain:
        """The Go toolchain the project asks for; one that is fetched is there when `make_ready` was called."""
        return go_toolchain.find(self.project.go, self.project.go_setting, self.project.go_folder)

    def make_ready(self) -> None:
        """Fetch what the steps need and is not there: a Go named by its version. Raises UserError, OSError."""
        go_toolchain.make_ready(self.go, self.project.go_setting)

    @property
    def of_go(self) -> tuple[Path, ...]:
        """What the first two steps made that the others read."""
        return self.go_object, self.runtime_json, self.directives

    @cached_property
    def binutils(self) -> BinaryToolchain:
        """The assembler and linker the project asks for."""
        return choice.find(self.project.toolchain)

    @cached_property
    def places(self) -> Places:
        """What files are named from in action keys, wherever the project and the tools lie."""
        return Places(
            self.project.root,
            (
                ("buildsys", PACKAGE),
                ("templates", shipped("templates")),
                ("linker", shipped("linker")),
                ("go", self.go.root),
                ("zig", zig.program().parent),
                ("jinja2", jinja()[0].parent),
                *((("src", shipped("src")),) if self.project.program else ()),
            ),
        )

    def _waiting(self) -> None:
        if not self._told:
            print(f"another build is at work in {self.project.build}: waiting for it", file=sys.stderr)
        self._told = True

    def _up_to_date(self, action: Action) -> dict[str, Any]:
        """The facts of `action`, performed if it must be."""
        if self.records.stale(action):
            return self.records.perform(action)
        return self.records.facts(action.name)

    def _placed(self) -> Placed | None:
        """What templates are told of the program, if there is one."""
        from buildsys.stages.programs import placed

        if not self.project.program:
            return None
        return placed(self.program_json, self.project.program, self.project.barrier.name == COUNT)

    @property
    def _own(self) -> tuple[Path, ...]:
        """The user's own assembly; its boot code comes first, as in the image."""
        project = self.project
        return (project.boot, *project.assembly) if project.boot else project.assembly

    @property
    def _rendered(self) -> tuple[tuple[Path, Path], ...]:
        """Those of the user's files that are templates, and what each makes."""
        return tuple((path, self._made_of(path, ".s")) for path in self._own if path.name.endswith(RENDERED))

    def _made_of(self, source: Path, ending: str) -> Path:
        """Where what is made of the user's file `source` goes."""
        parts = ["up" if part == ".." else part for part in self._under_root(source).parts if part != "/"]
        name = parts[-1].removesuffix(".j2") if ending == ".s" else parts[-1] + ending
        return self.project.build.joinpath(OWN, *parts[:-1], name)

    def _under_root(self, path: Path) -> Path:
        root = self.project.root
        return path.relative_to(root) if path.is_relative_to(root) else path

    def _here(self, path: Path) -> Path:
        """`path` as seen from the working folder if it lies in the project, so that a copied tree is its own."""
        root = self.project.root
        try:
            return root / path.relative_to(root.resolve())
        except ValueError:
            return path

    def _made(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@cache
def code(*rooms: str) -> tuple[Path, ...]:
    """The modules a step consists of: when one changes, what the step made is made again."""
    found: list[Path] = []
    for room in (*rooms, "files.py", "processes.py"):
        path = PACKAGE / room
        found += [path] if path.suffix else sorted(path.glob("*.py"))
    return tuple(found)


@cache
def jinja() -> tuple[Path, ...]:
    """The modules of Jinja: what it makes of a template is its version's affair."""
    spec = find_spec("jinja2")
    return tuple(sorted(Path(spec.origin).parent.glob("*.py"))) if spec and spec.origin else ()
