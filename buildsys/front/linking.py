"""What one link consists of, an action each: rendering, assembling, the user's own, binding, the linker's run.

They are sub-steps of `link`: none is kept in the caches, and none is a task. The step goes through
them until addresses hold still, and each is done only if something it is made of changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys.cache.action import Action, Discovered
from buildsys.cache.fingerprint import stat_of, unlinked
from buildsys.config.barrier import COUNT
from buildsys.config.redirects import READY
from buildsys.errors import UserError
from buildsys.front.artifacts import Artifacts, code, jinja
from buildsys.toolchains import zig

if TYPE_CHECKING:
    from buildsys.formats.elf import Elf
    from buildsys.go.runtime import Plan
    from buildsys.go.sites import SiteTable
    from buildsys.stages.link import Linked

# The code that makes objects of the user's fit to be linked here.
FITTED = ("stages/link.py", "stages/assembly.py", "stages/expected.py")
SCRIPT = "kernel.ld"
BINDINGS = "bindings.s"
ORIGINALS = "originals.s"
SETS = "sets"  # the folder in a folder of templates where those of ready sets are


class Linking(Artifacts):
    """The sub-steps of `link`."""

    # Called before templates are rendered.
    before_rendering: Callable[[], object] = staticmethod(lambda: None)
    _last_linked: tuple[tuple[int, ...], Elf] | None = None  # what was last linked, and the stat of that file

    def _linked(self, known: Mapping[str, int]) -> Linked:
        """A link of the Go object and of our own, bound to the addresses in `known`.

        Each part is made only if something it is made of changed: a comment in a template goes no further
        than the rendering.
        """
        facts = self._up_to_date(self.render(known))
        actions = [self.assemble(self.project.build / name) for name in self.templates]
        actions += map(self.assemble_own, self._own)
        actions += map(self.adopt, self.project.objects)
        stale = [action for action in actions if self.records.stale(action)]
        if len(stale) == 1:
            self.records.perform(stale[0])
        elif stale:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor() as pool:
                list(pool.map(self.records.perform, stale))  # raises what the assembler raised
        objects = [action.outputs[0] for action in actions]
        own = objects[len(self.templates) :]
        named: list[str] = facts["originals"]
        if (named or own) and self._up_to_date(self.stand_ins(own, named))["originals"]:
            standing = self.assemble(self.project.build / ORIGINALS)
            self._up_to_date(standing)
            objects[len(self.templates) : len(self.templates)] = standing.outputs
        if self._expects:
            self._up_to_date(self.expect(objects))
        if not own:
            self._up_to_date(self.join(objects))
            return self._as_linked(facts["asked"])
        others = objects[: -len(own)]
        bound = self._up_to_date(self.bind(own, others, known))["bound"]
        bindings = self.assemble(self.project.build / BINDINGS)
        self._up_to_date(bindings)
        try:
            self._up_to_date(self.join([*own, *others, *bindings.outputs]))
        except UserError as error:
            from buildsys.stages.assembly import explained

            raise explained(error, own, self.go_object) from error
        return self._as_linked(sorted({*facts["asked"], *bound}))

    def _as_linked(self, asked: Sequence[str]) -> Linked:
        from buildsys.stages.link import Linked

        return Linked(self.linked, self._elf_of(self.linked), asked)

    def _elf_of(self, path: Path) -> Elf:
        """What is in the linked image `path`; not read again if that is one more name of what was just linked."""
        from buildsys.formats.elf import Elf

        stat = stat_of(path)
        if not stat:
            return Elf.mapped(path)  # which tells
        if self._last_linked is None or self._last_linked[0] != unlinked(stat):
            self._last_linked = unlinked(stat), Elf.mapped(path)
            self._last_linked[1].name = str(self.unpatched)  # as messages call it
        return self._last_linked[1]

    @contextmanager
    def _packing(self) -> Iterator[None]:
        """Have the archive made, if it must be, while the body runs."""
        action = self.pack()
        if not self.records.stale(action):
            yield
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            packed = pool.submit(self.records.perform, action)
            yield
            packed.result()

    def pack(self) -> Action:
        """go.o ─▶ kernel.a."""

        def run() -> dict[str, Any]:
            from buildsys.stages.compilation import pack

            pack(zig.program(), self.compiled, self.archive)
            return {}

        return Action(
            name="pack",
            inputs=(self.compiled, zig.program(), *code("stages/compilation.py", "toolchains/zig.py")),
            outputs=(self.archive,),
            parameters={},
            run=run,
            kept=False,
        )

    def render(self, known: Mapping[str, int]) -> Action:
        """Templates, board and runtime.json ─▶ boot.s, writebarrier.s, fatal.s, kernel.ld."""
        project, build = self.project, self.project.build

        def run() -> dict[str, Any]:
            from buildsys.cache.lock import sweep
            from buildsys.stages.objects import read_originals, read_runtime
            from buildsys.stages.rendering import COMPILED, Sources, render

            self.before_rendering()
            sweep(build / COMPILED)
            offsets, plan = read_runtime(self.runtime_json)
            sources = Sources(
                layout=offsets,
                plan=plan,
                board=project.board,
                entry=project.entry,
                folders=self.folders,
                templates=(SCRIPT, *self.templates),
                toolchain=self.binutils.name,
                variant=self.variant,
                arguments=project.arguments,
                own=tuple((str(path.relative_to(project.root)), made) for path, made in self._rendered),
                own_boot=project.boot is not None,
                allocator=project.allocator,
                alloc_memory=project.alloc_memory,
                barrier=project.barrier,
                sites=self._site_table(plan),
                symbols=tuple((name, str(place)) for name, place in project.expected.symbols),
                ready=self._ready,
                program=self._placed(),
            )
            return {"asked": render(sources, build, known), "originals": read_originals(self.runtime_json)}

        return Action(
            name="render",
            inputs=(
                self.runtime_json,
                *((self.program_json,) if project.program else ()),
                *((self.go_object,) if project.barrier.name == COUNT else ()),
                project.board.path,
                *code("config", "go/runtime.py", "go/sets.py", "go/sites.py", "stages"),
                *jinja(),
            ),
            outputs=(
                *(build / name for name in self.templates),
                *(made for _, made in self._rendered),
                build / SCRIPT,
            ),
            parameters={**self._parameters, "addresses": dict(known)},
            run=run,
            discover=self._templates,
            kept=False,
        )

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where templates are looked for."""
        return (*self.project.templates, self.project.root) if self._rendered else self.project.templates

    @property
    def _parameters(self) -> dict[str, Any]:
        """What decides of a link, and of what is rendered for it, besides files."""
        project = self.project
        return {
            **self._own_parameters,
            **self._expected_parameters,
            "entry": project.entry,
            "toolchain": self.binutils.name,
            "templates": [self.places.name(folder) for folder in project.templates],
            "variant": self.variant._asdict(),
            "alloc": (project.allocator, project.alloc_memory),
            "barrier": asdict(project.barrier),
        }

    def _templates(self) -> Discovered:
        """Every file a template could include, and the folders they are looked for in; what own assembly reads."""
        every = (at for folder in self.project.templates for at in (folder, folder / SETS))
        folders = tuple(folder for folder in every if folder.is_dir())
        files = [file for folder in folders for file in sorted(folder.glob("*.j2"))]
        for source in self._own:
            files += [source, *self._included(source)]
        return Discovered((*files, *self.project.objects), folders)

    def _included(self, source: Path) -> tuple[Path, ...]:
        from buildsys.stages.assembly import included

        return tuple(included(source, self.project.root, self._paths))

    def _site_table(self, plan: Plan) -> SiteTable:
        """Room for each call of a barrier in the Go object, under the policy that counts them."""
        from buildsys.formats.elf import Elf
        from buildsys.go.sites import NO_SITES, calls, table_for

        if self.project.barrier.name != COUNT:
            return NO_SITES
        if program := self._placed():
            return table_for(program.sites)
        return table_for(calls(Elf.mapped(self.go_object), plan.collecting))

    def assemble(self, source: Path) -> Action:
        """boot.s ─▶ boot.o, and the like."""

        def run() -> dict[str, Any]:
            from buildsys.stages.link import assemble

            assemble(self.binutils, source)
            return {}

        return Action(
            name=self.assembles(source),
            inputs=(source, *self.binutils.files, *code("toolchains", "stages/link.py")),
            outputs=(source.with_suffix(".o"),),
            parameters={"command": self.binutils.assembler[1:]},
            run=run,
            kept=False,
        )

    def assembles(self, source: Path) -> str:
        """The name of the action that assembles `source`, which a template made: none that a user's file has."""
        return f"assemble {':'.join(source.relative_to(self.project.build).parts)}"

    def assemble_own(self, source: Path) -> Action:
        """src/lib.s ─▶ own/src/lib.s.o, and what it includes."""
        read = dict(self._rendered).get(source, source)
        made = self._made_of(source, ".o")

        def run() -> dict[str, Any]:
            from buildsys.stages.link import assemble_own

            literals = self.project.expected.literals
            assemble_own(
                self.binutils, read, source.parent, self.project.root, made, self._flags, self._paths, literals
            )
            return {}

        return Action(
            name=f"assemble {_in_a_name(source)}",
            inputs=(read, *self.binutils.files, *code("toolchains", "formats", *FITTED)),
            outputs=(made,),
            parameters={
                "command": self.binutils.assembler[1:],
                "folder": self.places.name(source.parent),
                **({"sections": self._flags} if self._flags else {}),
                **({"paths": self._paths} if self._paths else {}),
                **({"literals": self._literals} if self._literals else {}),
            },
            run=run,
            discover=lambda: Discovered(self._included(source)),
            kept=False,
        )

    def adopt(self, given: Path) -> Action:
        """x.o ─▶ own/x.o.o, as it is linked."""
        made = self._made_of(given, ".o")

        def run() -> dict[str, Any]:
            from buildsys.stages.link import adopt

            adopt(given, made, self._flags, self.project.expected.literals)
            return {}

        return Action(
            name=f"adopt {_in_a_name(given)}",
            inputs=(given, *code("formats", *FITTED)),
            outputs=(made,),
            parameters={
                **({"sections": self._flags} if self._flags else {}),
                **({"literals": self._literals} if self._literals else {}),
            },
            run=run,
            kept=False,
        )

    def stand_ins(self, own: Sequence[Path], by_go: Sequence[str]) -> Action:
        """The user's objects and go.o ─▶ originals.s: room for each original that is called by name."""
        made = self.project.build / ORIGINALS

        def run() -> dict[str, Any]:
            from buildsys.stages.originals import stand_ins

            return {"originals": stand_ins(own, by_go, self.go_object, made)}

        return Action(
            name="originals",
            inputs=(*own, self.go_object, *code("formats", "stages/originals.py")),
            outputs=(made,),
            parameters={"by Go": list(by_go)},
            run=run,
            kept=False,
        )

    def expect(self, others: Sequence[Path]) -> Action:
        """go.o ─▶ go.expected.o: symbols and addresses as the kernel, also in the objects `others`, expects them."""
        expected, script = self.project.expected, self.project.build / SCRIPT

        def run() -> dict[str, Any]:
            from buildsys.stages.expected import expect

            expect(self.go_object, others, script, expected.symbols, expected.literals, self._to_link)
            return {}

        return Action(
            name="expect",
            inputs=(
                self.go_object,
                *others,
                script,
                *code("config", "formats", "stages/expected.py", "stages/assembly.py"),
            ),
            outputs=(self._to_link,),
            parameters=self._expected_parameters,
            run=run,
            kept=False,
        )

    def bind(self, own: Sequence[Path], others: Sequence[Path], known: Mapping[str, int]) -> Action:
        """The user's objects and go.o ─▶ bindings.s: the addresses of the Go symbols that the objects name."""
        made = self.project.build / BINDINGS

        def run() -> dict[str, Any]:
            from buildsys.stages.link import bind

            given = [name for name, _ in self.project.expected.symbols]
            return {"bound": bind(own, others, self.go_object, self.project.board, known, given, made)}

        return Action(
            name="bind",
            inputs=(*own, *others, self.go_object, *code("formats", "stages/link.py", "stages/assembly.py")),
            outputs=(made,),
            parameters={
                "addresses": dict(known),
                "text": self.project.board.text,
                **self._expected_parameters,
            },
            run=run,
            kept=False,
        )

    def join(self, objects: Sequence[Path]) -> Action:
        """kernel.ld, our objects and go.o ─▶ one link, to be looked at before it is the unpatched image."""
        script = self.project.build / SCRIPT
        linked = [*objects, self._to_link, *((self.program_object,) if self.project.program else ())]

        def run() -> dict[str, Any]:
            from buildsys.stages.link import join

            join(self.binutils, script, linked, self.linked)
            self.records.made(self.linked)
            _ = self._elf_of(self.linked).symbols  # which are asked for next
            return {}

        return Action(
            name="join",
            inputs=(script, *linked, *self.binutils.files, *code("toolchains", "stages/link.py")),
            outputs=(self.linked,),
            parameters={"command": self.binutils.linker[1:]},
            run=run,
            kept=False,
        )

    @property
    def assembled(self) -> tuple[tuple[str, Path], ...]:
        """The objects beside Go's that are linked: what each was made from, as the user names it, and where it is."""
        build = self.project.build
        made = [(name, (build / name).with_suffix(".o")) for name in (*self.templates, ORIGINALS, BINDINGS)]
        own = [(str(self._under_root(path)), self._made_of(path, ".o")) for path in (*self._own, *self.project.objects)]
        return tuple((name, path) for name, path in (*own, *made) if path.is_file())

    @property
    def _expects(self) -> bool:
        """Whether the Go object is not linked as Go made it."""
        return bool(self.project.expected.symbols or self.project.expected.literals)

    @property
    def _to_link(self) -> Path:
        """The Go object that is linked."""
        return self.project.build / "go.expected.o" if self._expects else self.go_object

    @property
    def _ready(self) -> tuple[str, ...]:
        """The functions of ours that are in the image because a redirect names them."""
        return tuple(sorted({each.to for each in self.project.redirects if each.to in READY}))

    @property
    def _flags(self) -> dict[str, str]:
        return dict(self.project.expected.sections)

    @property
    def _literals(self) -> list[str]:
        return [f"{each.function} {each.value:#x} {each.place}" for each in self.project.expected.literals]

    @property
    def _paths(self) -> dict[str, str]:
        return dict(self.project.expected.paths)

    @property
    def _own_parameters(self) -> dict[str, Any]:
        """What decides of the user's files and of the entry's arguments, where there is anything to decide."""
        project, name = self.project, self.places.name
        return {
            "arguments": project.arguments,
            "boot": project.boot and name(project.boot),
            "assembly": [name(path) for path in project.assembly],
            "objects": [name(path) for path in project.objects],
            # The board's file says how much there is, but for tests, which may have more.
            **({"RAM": project.board.ram.length} if project.options.tests else {}),
        }

    @property
    def _expected_parameters(self) -> dict[str, Any]:
        """What the kernel expects, where it expects anything: the keys of others stay as they are."""
        expected = self.project.expected
        found: dict[str, Any] = {
            "symbols": {name: str(place) for name, place in expected.symbols},
            "literals": self._literals,
            "sections": dict(expected.sections),
            "paths": dict(expected.paths),
            "ready": self._ready,
        }
        if self.project.program:
            found["program"] = asdict(self.project.program)
        return {name: value for name, value in found.items() if value}


def _in_a_name(path: Path) -> str:
    """A path as part of an action's name, which is that of a file."""
    return str(path).replace("+", "++").replace("/", "+")
