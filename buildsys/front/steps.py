"""The steps of the chain as actions: what each reads, what each makes, what else decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys import files
from buildsys.cache.action import Action, Discovered
from buildsys.cache.caches import Caches
from buildsys.cache.fingerprint import Print, of_file
from buildsys.config.project import Project, shipped
from buildsys.config.redirects import Redirection
from buildsys.errors import UserError
from buildsys.front.artifacts import code, jinja
from buildsys.front.linking import SCRIPT, Linking
from buildsys.go import toolchain as go_toolchain
from buildsys.go.options import GoOptions
from buildsys.stages.variant import SHIPPED, Variant
from buildsys.toolchains import zig

if TYPE_CHECKING:
    from buildsys.go.inputs import Inputs

SUPERVISOR = "supervisor"  # the folder of src
SUPERVISED_BY = ("board", "memory", "uart", SUPERVISOR)  # what its packages import, of src


class Steps(Linking):
    """The chain of one kernel: compile, runtime, link, patch; of a program also its supervisor."""

    def __init__(self, project: Project, variant: Variant = SHIPPED, caches: Caches | None = None) -> None:
        super().__init__(project, variant, caches)
        # Called when Go has been started.
        self.compiling: Callable[[], object] = lambda: None
        # Called, in another thread, with the name of the moment of an image that is not known to be sound yet,
        # and with the user's functions that no good end follows, names by address.
        self.written: Callable[[Path, Mapping[int, str]], object] = lambda image, dead_ends: None

    def compile(self) -> Action:
        """The kernel package ─go build─▶ go.o; its redirects ─▶ directives.json."""
        project = self.project

        def discover() -> Discovered:
            self._refuse_release()
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
                *code("go", "config/redirects.py", "stages/directives.py", "stages/compilation.py"),
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
            inputs=(*self._supervising, *self.go.files, *code("go", "stages/compilation.py")),
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
                *code("go", "formats", "stages/objects.py", "stages/originals.py"),
                *(code("stages/programs.py") if program else ()),
            ),
            outputs=(self.runtime_json, *made),
            parameters={"sets": self.project.sets, "alloc": self.project.allocator},
            run=run,
        )

    def _refuse_release(self) -> None:
        """Raise UserError for a Go of which no program is made."""
        if not self.project.program:
            return
        from buildsys.stages.programs import OLDEST

        if self.go.version < OLDEST:
            raise UserError(
                f"{self.project.go_setting} is Go {self.go.release}, and a program needs " + ".".join(map(str, OLDEST)),
                'a newer one is fetched: go = "1.27"',
            )

    def _refuse_for_programs(self) -> None:
        """Raise UserError for what cannot be had in a program."""
        from buildsys.stages.directives import read

        self._refuse_release()  # what a cache has of such a Go was compiled for a bare kernel
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
            self.records.alike(self.records.seen(self.linked), self.unpatched)
            self.records.alike(self.records.seen(self.archive), self.archive)
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
                *code("config", "formats", "go/runtime.py", "go/sets.py", "go/sites.py", "stages", "toolchains"),
                *jinja(),
            ),
            outputs=(
                *(build / name for name in self.templates),
                *((build / name).with_suffix(".o") for name in self.templates),
                build / SCRIPT,
                self.archive,
                self.unpatched,
                self.binding,
            ),
            parameters=self._parameters,
            run=run,
            tells=("passes",),
            discover=self._templates,
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
            whole: list[Print] = []

            def written(beside: Path, dead_ends: Mapping[int, str]) -> None:
                self.written(beside, dead_ends)
                whole.append(of_file(beside))  # in this thread, which has no more to do, while the image is checked

            facts = patch_image(
                self._elf_of(self.unpatched),
                plan,
                project.entry,
                image,
                report,
                wanted,
                package=str(self._under_root(project.package)),
                written=written,
                barrier=project.barrier,
                allocator=project.allocator,
                configuration=self.configuration,
                passing=program.barriers if program else (),
            )
            for each in whole:
                self.records.alike(each, image)
            return facts

        return Action(
            name="patch",
            inputs=(
                self.unpatched,
                self.runtime_json,
                self.directives,
                *((self.program_json,) if self.project.program else ()),
                *code("formats", "go", "config/redirects.py", "config/barrier.py", "stages/directives.py"),
                *code("stages/originals.py", "stages/patch.py", "stages/redirects.py"),
                *code("stages/agreement.py", "stages/findings.py"),
            ),
            outputs=(self.image, self.patch_json),
            parameters={
                "entry": self.project.entry,
                "package": str(self._under_root(self.project.package)),
                "redirects": [each.decides() for each in self.project.redirects],
                "barrier": asdict(self.project.barrier),
                "alloc": self.project.allocator,
                "configuration": self.configuration,
            },
            run=run,
            tells=("sites", "remark", "sections"),
            first=self._keep_previous,
        )

    def _keep_previous(self) -> None:
        """Give the image that is there another name, so that what comes can be compared with it."""
        from buildsys.cache.lock import sweep

        sweep(self.previous.parent)
        if self.image.is_file():
            with suppress(OSError):  # nobody may ever ask
                self.previous.parent.mkdir(exist_ok=True)
                files.share(self.image, self.previous)

    @property
    def configuration(self) -> dict[str, Any]:
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


def _import_what_follows() -> None:
    """Load what the next steps need while Go, in processes of its own, compiles."""
    from importlib import import_module

    for name in ("objects", "link", "rendering", "patch"):
        import_module(f"buildsys.stages.{name}")
    import_module("concurrent.futures")
    files.prepare()
