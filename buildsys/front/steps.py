"""The steps of the chain as actions: what each reads, what each makes, what else decides it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys import files
from buildsys.cache.action import Action, Discovered, Records
from buildsys.cache.caches import Caches
from buildsys.cache.fingerprint import of_file
from buildsys.cache.key import Places
from buildsys.config.barrier import COUNT
from buildsys.config.project import PACKAGE, Project, shipped
from buildsys.config.redirects import READY, Redirection
from buildsys.errors import UserError
from buildsys.go import sets
from buildsys.go import toolchain as go_toolchain
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain
from buildsys.stages.variant import SHIPPED, Variant
from buildsys.toolchains import choice, zig
from buildsys.toolchains.binary import BinaryToolchain

if TYPE_CHECKING:
    from buildsys.go.inputs import Inputs
    from buildsys.go.runtime import Plan
    from buildsys.go.sites import SiteTable
    from buildsys.stages.programs import Placed

SCRIPT = "kernel.ld"
BINDINGS = "bindings.s"
ORIGINALS = "originals.s"
OWN = "own"  # the folder in the build folder where what comes of the user's own assembly is
RENDERED = ".s.j2"
SETS = "sets"  # the folder in a folder of templates where those of ready sets are
TEMPLATES = ("boot.s", "writebarrier.s", "fatal.s")
OF_PROGRAMS = "supervisor.s"  # and this of a program
SUPERVISOR = "supervisor"  # the folder of src
SUPERVISED_BY = ("board", "memory", "uart", SUPERVISOR)  # what its packages import, of src


class Steps:
    """The chain of one project; every path is relative to its root, the working folder."""

    def __init__(self, project: Project, variant: Variant = SHIPPED, caches: Caches | None = None) -> None:
        self.project, self.variant = project, variant
        # Called when Go has been started.
        self.compiling: Callable[[], object] = lambda: None
        # Called, in another thread, with the name of the moment of an image that is not known to be sound yet.
        # and with the user's functions that no good end follows, names by address.
        self.written: Callable[[Path, Mapping[int, str]], object] = lambda image, dead_ends: None
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
                ("jinja2", _jinja()[0].parent),
                *((("src", shipped("src")),) if self.project.program else ()),
            ),
        )

    def compile(self) -> Action:
        """The kernel package ─go build─▶ go.o; its redirects ─▶ directives.json."""
        project = self.project

        def discover() -> Discovered:
            found = self._sources()
            return Discovered(tuple(map(self._here, found.files)), tuple(map(self._here, found.folders)))

        directed: list[Redirection] = []

        def meanwhile() -> None:
            self.compiling()
            _import_what_follows()
            directed[:] = self.directed()

        def run() -> dict[str, Any]:
            from buildsys.cache.lock import sweep
            from buildsys.stages.compilation import make_object
            from buildsys.stages.directives import write

            sweep(project.build / ".tools")
            said = make_object(
                self.go,
                project.package,
                project.options,
                self._made(self.compiled),
                project.build / ".tools",
                meanwhile,
            )
            write(directed, self.directives)
            return {"said": said}

        return Action(
            name="compile",
            inputs=(
                *self.go.files,
                *_code("go", "config/redirects.py", "stages/directives.py", "stages/compilation.py"),
            ),
            outputs=(self.compiled, self.directives),
            parameters={
                "package": self.places.name(project.package),
                "tags": project.options.tags,
                "gcflags": project.options.gcflags,
                "ldflags": project.options.ldflags,
                **({"tests": project.options.tests} if project.options.tests else {}),
                "Go release": self.go.release,
                "environment": {k: v for k, v in self.go.environment().items() if k in go_toolchain.SET},
            },
            run=run,
            tells=("said",),
            discover=discover,
        )

    def supervisor(self) -> Action:
        """src/supervisor ─go build─▶ supervisor.go.o: the kernel of an image with a program, in all projects."""
        sources, build = shipped("src"), self.project.build

        def run() -> dict[str, Any]:
            from buildsys.stages.compilation import make_object

            make_object(self.go, sources / SUPERVISOR, GoOptions(), self.go_object, build / ".tools")
            return {}

        return Action(
            name="supervisor",
            inputs=(*self._supervising, *self.go.files, *_code("go", "stages/compilation.py")),
            outputs=(self.go_object,),
            parameters={
                "Go release": self.go.release,
                "environment": {k: v for k, v in self.go.environment().items() if k in go_toolchain.SET},
            },
            run=run,
        )

    @property
    def _supervising(self) -> tuple[Path, ...]:
        """The sources of the supervisor."""
        sources = shipped("src")
        found = [file for folder in SUPERVISED_BY for file in sorted((sources / folder).rglob("*.*"))]
        return (sources / "go.mod", *(file for file in found if file.suffix in (".go", ".s")))

    def runtime(self) -> Action:
        """go.o ─▶ runtime.json: field offsets from DWARF, the functions to take over.

        Of a program: go.o ─▶ program.go.o; and all of that is about the supervisor.
        """
        program = self.project.program

        def run() -> dict[str, Any]:
            from buildsys.stages.objects import describe_runtime

            project = self.project
            if program:
                from buildsys.stages.programs import adopt_program

                self._refuse_for_programs()
                adopt_program(self.compiled, self.program_object, self.program_json)
                self._up_to_date(self.supervisor())
            describe_runtime(self.go_object, self._made(self.runtime_json), project.sets, project.allocator)
            return {}

        made = (self.go_object, self.program_object, self.program_json) if program else ()
        of_programs = (*self._supervising, self.directives, *self.go.files) if program else ()
        return Action(
            name="runtime",
            inputs=(
                self.compiled,
                *of_programs,
                *_code("go", "formats", "stages/objects.py", "stages/originals.py"),
                *(_code("stages/programs.py") if program else ()),
            ),
            outputs=(self.runtime_json, *made),
            parameters={"sets": self.project.sets, "alloc": self.project.allocator},
            run=run,
        )

    def _refuse_for_programs(self) -> None:
        """Raise UserError for what cannot be had in a program."""
        from buildsys.stages.directives import read
        from buildsys.stages.programs import OLDEST

        if self.go.version < OLDEST:
            raise UserError(
                f"{self.project.go_setting} is Go {self.go.release}, and a program needs " + ".".join(map(str, OLDEST)),
                'a newer one is fetched: go = "1.27"',
            )
        if directed := read(self.directives):
            raise UserError(
                f"{directed[0].place}: {directed[0].old} is to be redirected, and functions of a program cannot be",
                'leave the directive out: redirects are for `kind = "bare"`',
            )

    def link(self) -> Action:
        """templates, linker script, board, runtime.json and go.o ─▶ kernel.unpatched.elf, addresses bound.

        And go.o ─▶ kernel.a, which is for others.
        """
        project, build = self.project, self.project.build

        def run() -> dict[str, Any]:
            from buildsys.stages.link import link

            with self._packing():
                passes = link(self._linked, project.entry, self._made(self.unpatched), self.binding, project.barrier)
            self.records.alike(self.linked, self.unpatched)
            self.records.alike(self.archive, self.archive)
            return {"passes": passes}

        return Action(
            name="link",
            inputs=(
                self.go_object,
                *((self.compiled, self.program_object, self.program_json) if project.program else ()),
                self.runtime_json,
                zig.program(),
                project.board.path,
                *self.binutils.files,
                *_code("config", "formats", "go/runtime.py", "go/sets.py", "go/sites.py", "stages", "toolchains"),
                *_jinja(),
            ),
            outputs=(
                *(build / name for name in self.templates),
                *((build / name).with_suffix(".o") for name in self.templates),
                build / SCRIPT,
                self.archive,
                self.unpatched,
                self.binding,
            ),
            parameters={
                **self._own_parameters,
                **self._expected_parameters,
                "entry": project.entry,
                "toolchain": self.binutils.name,
                "templates": [self.places.name(folder) for folder in project.templates],
                "variant": self.variant._asdict(),
                "alloc": (project.allocator, project.alloc_memory),
                "barrier": asdict(project.barrier),
            },
            run=run,
            tells=("passes",),
            discover=self._templates,
        )

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
            inputs=(self.compiled, zig.program(), *_code("stages/compilation.py", "toolchains/zig.py")),
            outputs=(self.archive,),
            parameters={},
            run=run,
            kept=False,
        )

    def _linked(self, known: Mapping[str, int]) -> tuple[Path, list[str]]:
        """A link of the Go object and of our own, bound to the addresses in `known`: (file, symbols asked for).

        Each part is made only if something it is made of changed: a comment in a template goes no further
        than the rendering.
        """
        facts = self._up_to_date(self.render(known))
        actions = [self.assemble(self.project.build / name) for name in self.templates]
        actions += map(self.assemble_own, self._own)
        actions += map(self.adopt, self.project.objects)
        if stale := [action for action in actions if self.records.stale(action)]:
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
            return self.linked, facts["asked"]
        others = objects[: -len(own)]
        bound = self._up_to_date(self.bind(own, others, known))["bound"]
        bindings = self.assemble(self.project.build / BINDINGS)
        self._up_to_date(bindings)
        try:
            self._up_to_date(self.join([*own, *others, *bindings.outputs]))
        except UserError as error:
            from buildsys.stages.assembly import explained

            raise explained(error, own, self.go_object) from error
        return self.linked, sorted({*facts["asked"], *bound})

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

    def _up_to_date(self, action: Action) -> dict[str, Any]:
        """The facts of `action`, performed if it must be."""
        if self.records.stale(action):
            return self.records.perform(action)
        return self.records.facts(action.name)

    def render(self, known: Mapping[str, int]) -> Action:
        """Templates, board and runtime.json ─▶ boot.s, writebarrier.s, fatal.s, kernel.ld."""
        project, build = self.project, self.project.build

        def run() -> dict[str, Any]:
            from buildsys.cache.lock import sweep
            from buildsys.stages.link import COMPILED, Sources, render
            from buildsys.stages.objects import read_originals, read_runtime

            sweep(build / COMPILED)
            offsets, plan = read_runtime(self.runtime_json)
            sources = Sources(
                layout=offsets,
                plan=plan,
                board=project.board,
                entry=project.entry,
                folders=(*project.templates, project.root) if self._rendered else project.templates,
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
                *_code("config", "go/runtime.py", "go/sets.py", "go/sites.py", "stages"),
                *_jinja(),
            ),
            outputs=(
                *(build / name for name in self.templates),
                *(made for _, made in self._rendered),
                build / SCRIPT,
            ),
            parameters={
                **self._own_parameters,
                **self._expected_parameters,
                "addresses": dict(known),
                "entry": project.entry,
                "toolchain": self.binutils.name,
                "templates": [self.places.name(folder) for folder in project.templates],
                "variant": self.variant._asdict(),
                "alloc": (project.allocator, project.alloc_memory),
                "barrier": asdict(project.barrier),
            },
            run=run,
            discover=self._templates,
            kept=False,
        )

    def _site_table(self, plan: Plan) -> SiteTable:
        """Room for each call of a barrier in the Go object, under the policy that counts them."""
        from buildsys.formats.elf import Elf
        from buildsys.go.sites import NO_SITES, calls, table_for

        if self.project.barrier.name != COUNT:
            return NO_SITES
        if program := self._placed():
            return table_for(program.sites)
        return table_for(calls(Elf.mapped(self.go_object), plan.collecting))

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
                *_code("config", "formats", "stages/expected.py", "stages/assembly.py"),
            ),
            outputs=(self._to_link,),
            parameters=self._expected_parameters,
            run=run,
            kept=False,
        )

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

    def _placed(self) -> Placed | None:
        """What templates are told of the program, if there is one."""
        from buildsys.stages.programs import placed

        if not self.project.program:
            return None
        return placed(self.program_json, self.project.program, self.project.barrier.name == COUNT)

    def assemble(self, source: Path) -> Action:
        """boot.s ─▶ boot.o, and the like."""

        def run() -> dict[str, Any]:
            from buildsys.stages.link import assemble

            assemble(self.binutils, source)
            return {}

        return Action(
            name=self.assembles(source),
            inputs=(source, *self.binutils.files, *_code("toolchains", "stages/link.py")),
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
            inputs=(
                read,
                *self.binutils.files,
                *_code("toolchains", "formats", "stages/link.py", "stages/assembly.py", "stages/expected.py"),
            ),
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
            inputs=(given, *_code("formats", "stages/link.py", "stages/assembly.py", "stages/expected.py")),
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
            inputs=(*own, self.go_object, *_code("formats", "stages/originals.py")),
            outputs=(made,),
            parameters={"by Go": list(by_go)},
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
            inputs=(*own, *others, self.go_object, *_code("formats", "stages/link.py", "stages/assembly.py")),
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
            return {}

        return Action(
            name="join",
            inputs=(script, *linked, *self.binutils.files, *_code("toolchains", "stages/link.py")),
            outputs=(self.linked,),
            parameters={"command": self.binutils.linker[1:]},
            run=run,
            kept=False,
        )

    def patch(self) -> Action:
        """kernel.unpatched.elf ─▶ kernel.elf and patch.json: every call site redirected."""

        def run() -> dict[str, Any]:
            from buildsys.stages.directives import merged, read
            from buildsys.stages.objects import read_runtime
            from buildsys.stages.patch import patch_image

            _, plan = read_runtime(self.runtime_json)
            project, image, report = self.project, self._made(self.image), self.patch_json
            wanted = merged(project.redirects, read(self.directives))
            program = self._placed()
            return patch_image(
                self.unpatched,
                plan,
                project.entry,
                image,
                report,
                wanted,
                package=str(self._under_root(project.package)),
                written=self.written,
                barrier=project.barrier,
                allocator=project.allocator,
                configuration=self._configuration,
                passing=program.barriers if program else (),
            )

        return Action(
            name="patch",
            inputs=(
                self.unpatched,
                self.runtime_json,
                self.directives,
                *((self.program_json,) if self.project.program else ()),
                *_code("formats", "go", "config/redirects.py", "config/barrier.py", "stages/directives.py"),
                *_code("stages/originals.py", "stages/patch.py", "stages/redirects.py"),
                *_code("stages/agreement.py", "stages/findings.py"),
            ),
            outputs=(self.image, self.patch_json),
            parameters={
                "entry": self.project.entry,
                "package": str(self._under_root(self.project.package)),
                "redirects": [each.decides() for each in self.project.redirects],
                "barrier": asdict(self.project.barrier),
                "alloc": self.project.allocator,
                "configuration": self._configuration,
            },
            run=run,
            tells=("sites", "remark", "sections"),
            first=self._keep_previous,
        )

    def _keep_previous(self) -> None:
        """Give the image that is there another name, so that what comes can be compared with it."""
        if self.image.is_file():
            with suppress(OSError):  # nobody may ever ask
                self.previous.parent.mkdir(exist_ok=True)
                files.share(self.image, self.previous)

    @property
    def assembled(self) -> tuple[tuple[str, Path], ...]:
        """The objects beside Go's that are linked: what each was made from, as the user names it, and where it is."""
        build = self.project.build
        made = [(name, (build / name).with_suffix(".o")) for name in (*self.templates, ORIGINALS, BINDINGS)]
        own = [(str(self._under_root(path)), self._made_of(path, ".o")) for path in (*self._own, *self.project.objects)]
        return tuple((name, path) for name, path in (*own, *made) if path.is_file())

    @property
    def _configuration(self) -> dict[str, Any]:
        """What the identity of an image tells of beside its contents: by what it was made, and for what machine."""
        project = self.project
        return {
            "package": str(self._under_root(project.package)),
            "kernel": project.kernel,
            "entry": project.entry,
            "machine": (project.board.cpu, project.board.exception_level, project.board.qemu),
            "memory": [(each.name, each.origin, each.length, each.kind) for each in project.board.regions],
            "Go release": self.go.release,
            "tags": project.options.tags,
            "gcflags": project.options.gcflags,
            "ldflags": project.options.ldflags,
            "toolchain": self.binutils.name,
            "sets": project.sets,
            "barrier": asdict(project.barrier),
            "program": asdict(project.program) if project.program else None,
        }

    @property
    def redirects(self) -> tuple[Redirection, ...]:
        """What is to take the place of what: by the configuration, and by the sources as they are now."""
        from buildsys.stages.directives import merged

        return merged(self.project.redirects, self.directed())

    def directed(self) -> list[Redirection]:
        """What directives in the sources ask for: of a kernel, not of tests, which are a program."""
        from buildsys.stages.directives import directed

        if self.project.options.tests:
            return []

        return directed(self._sources().own, lambda path: str(self._under_root(self._here(path))))

    def _sources(self) -> Inputs:
        """What a build of the package reads, as it is now."""
        from buildsys.cache.memory import Memory
        from buildsys.go.inputs import known_inputs

        project, places = self.project, self.places
        memory = Memory(self.records.path("go list"), self._question, self.records.caches)
        return known_inputs(self.go, project.package, project.options, memory, places.name, places.path)

    def _question(self) -> str:
        """The key of what the go command says of the package's inputs: many states of the sources have one."""
        from buildsys.cache.key import action_key

        package = self.project.package
        above = next((at for at in (package, *package.resolve().parents) if (at / "go.mod").is_file()), None)
        modules = {str(above / "go.mod"): of_file(above / "go.mod")[1]} if above else {}
        asked = {
            "package": self.places.name(package),
            "release": self.go.release,
            "sealed": self.go.sealed,
            "tags": self.project.options.tags,
            **({"tests": self.project.options.tests} if self.project.options.tests else {}),
        }
        return action_key("go list", asked, modules, (), self.places)

    def _waiting(self) -> None:
        if not self._told:
            print(f"another build is at work in {self.project.build}: waiting for it", file=sys.stderr)
        self._told = True

    def _templates(self) -> Discovered:
        """Every file a template could include, and the folders they are looked for in; what own assembly reads."""
        every = (at for folder in self.project.templates for at in (folder, folder / SETS))
        folders = tuple(folder for folder in every if folder.is_dir())
        files = [file for folder in folders for file in sorted(folder.glob("*.j2"))]
        for source in self._own:
            files += [source, *self._included(source)]
        return Discovered((*files, *self.project.objects), folders)

    @property
    def _own(self) -> tuple[Path, ...]:
        """The user's own assembly; its boot code comes first, as in the image."""
        project = self.project
        return (project.boot, *project.assembly) if project.boot else project.assembly

    @property
    def _rendered(self) -> tuple[tuple[Path, Path], ...]:
        """Those of the user's files that are templates, and what each makes."""
        return tuple((path, self._made_of(path, ".s")) for path in self._own if path.name.endswith(RENDERED))

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

    def _made_of(self, source: Path, ending: str) -> Path:
        """Where what is made of the user's file `source` goes."""
        parts = ["up" if part == ".." else part for part in self._under_root(source).parts if part != "/"]
        name = parts[-1].removesuffix(".j2") if ending == ".s" else parts[-1] + ending
        return self.project.build.joinpath(OWN, *parts[:-1], name)

    def _under_root(self, path: Path) -> Path:
        root = self.project.root
        return path.relative_to(root) if path.is_relative_to(root) else path

    def _included(self, source: Path) -> tuple[Path, ...]:
        from buildsys.stages.assembly import included

        return tuple(included(source, self.project.root, self._paths))

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


def _code(*rooms: str) -> tuple[Path, ...]:
    """The modules a step consists of: when one changes, what the step made is made again."""
    found: list[Path] = []
    for room in (*rooms, "files.py", "processes.py"):
        path = PACKAGE / room
        found += [path] if path.suffix else sorted(path.glob("*.py"))
    return tuple(found)


def _in_a_name(path: Path) -> str:
    """A path as part of an action's name, which is that of a file."""
    return str(path).replace("+", "++").replace("/", "+")


@cache
def _jinja() -> tuple[Path, ...]:
    """The modules of Jinja: what it makes of a template is its version's affair."""
    spec = find_spec("jinja2")
    return tuple(sorted(Path(spec.origin).parent.glob("*.py"))) if spec and spec.origin else ()


def _import_what_follows() -> None:
    """Load what the next steps need while Go, in processes of its own, compiles."""
    from importlib import import_module

    for name in ("buildsys.stages.objects", "buildsys.stages.link", "buildsys.stages.patch", "concurrent.futures"):
        import_module(name)
    files.prepare()
