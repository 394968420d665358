"""The tasks every project has: the four steps, `build` over them, and what is done with an image."""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable
from typing import Any

from buildsys.cache.action import OVERWRITTEN, UP_TO_DATE, Action, Records
from buildsys.errors import UserError
from buildsys.front import ahead
from buildsys.front.ahead import Ahead
from buildsys.front.command import DISK, HUNG_UP, hang_up
from buildsys.front.reporter import Failed, Reporter
from buildsys.front.steps import Steps

Task = dict[str, Any]

DOIT_CONFIG = {
    "default_tasks": ["build"],
    "reporter": Reporter.NAME,
    "backend": "buildsys",
    "verbosity": 2,
    # `doit forget` forgets what was done for the image, not just its name.
    "forget_sub": True,
}


def project_steps() -> Steps:
    """The chain of the only kernel in the working folder; a mistake in its configuration ends the program."""
    steps, *others = kernels_steps()
    if others:
        names = ", ".join(each.project.kernel for each in (steps, *others))
        raise SystemExit(
            f"error: {steps.project.file}: describes several kernels: {names}\n\n"
            "hint: this dodo.py knows one; buildsys.tasks makes tasks for each"
        )
    return steps


def kernels_steps() -> tuple[Steps, ...]:
    """The chain of each kernel of the project in the working folder, likewise."""
    try:
        return ahead.of_kernels()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


def named(task: str, steps: Steps) -> str:
    """The name of a task for one kernel: `build`, or `build:NAME` where there are several."""
    return f"{task}:{steps.project.kernel}" if steps.project.kernel else task


def step(
    records: Records,
    action: Callable[[], Action],
    says: str,
    after: str | None = None,
    begun: Ahead | None = None,
    make_ready: Callable[[], object] = lambda: None,
) -> Task:
    """A task that performs an action unless its record says that nothing changed, or waits for what has `begun`.

    `make_ready` is called before the action is asked for to be performed.
    """
    reason = ""

    def uptodate() -> bool:
        nonlocal reason
        if begun and not begun.taken:
            reason = begun.because
            return False
        try:
            reason = records.stale(action())
            return not reason
        except (UserError, OSError):
            return False  # a tool is missing, say; performing it will tell

    def perform() -> Failed | dict[str, Any]:
        began = time.time() if begun is None else begun.began
        try:
            if begun and not begun.taken:
                facts = begun.facts()
            else:
                make_ready()
                facts = records.perform(action())
            last = records.last(action().name)
            # Another build may have done it while this one waited.
            origin = last.origin if last and last.when >= began else UP_TO_DATE
            told = {"remark": reason} if reason.endswith(OVERWRITTEN) else {}
            return {**facts, **told, "origin": origin, "because": reason, "seconds": time.time() - began}
        except UserError as error:
            return Failed(error)
        except OSError as error:
            if error.filename is None and error.errno not in DISK:
                raise
            return Failed(f"{error.filename or records.folder.parent}: {error.strerror}")

    try:
        targets = [str(path) for path in action().outputs]
    except UserError:
        targets = []
    return {
        "actions": [perform],
        "uptodate": [uptodate],
        "targets": targets,
        "clean": True,
        "task_dep": [after] if after else [],
        "meta": {"step": says, "caches": records.caches},
    }


def compile_task(steps: Steps) -> Task:
    """Compile the kernel package with the stock Go toolchain, to build/go.o."""
    says = f"Go {steps.go.release} compiled {steps.project.package}" if _found(steps) else "compile"
    return step(steps.records, steps.compile, says, begun=ahead.of(steps), make_ready=steps.make_ready)


def runtime_task(steps: Steps) -> Task:
    """Read field offsets and the functions to take over from build/go.o, to build/runtime.json."""
    return step(steps.records, steps.runtime, f"read {steps.go_object}: offsets, barriers", named("compile", steps))


def link_task(steps: Steps) -> Task:
    """Render, assemble and link until symbol addresses hold still, to build/kernel.unpatched.elf."""
    says = f"linked for {steps.project.board.name}, addresses bound"
    return step(steps.records, steps.link, says, named("runtime", steps))


def patch_task(steps: Steps) -> Task:
    """Redirect every call site to our functions, to build/kernel.elf and build/patch.json."""
    return step(steps.records, steps.patch, "redirected call sites", named("link", steps))


def build_task(steps: Steps) -> Task:
    """Build the image: compile, link, bind, redirect."""

    def closing(built: bool, seconds: float) -> str:
        facts = steps.records.facts("patch")
        about = f"{steps.image}  {steps.image.stat().st_size / 1e6:.1f} MB, {facts['sites']} sites patched"
        if not built:
            return f"{about}; everything is up to date"
        from buildsys.front.share import memory_line

        project = steps.project
        memory = memory_line(facts["sections"], project.board, guarded=project.boot is None)
        return f"{memory}\n{about}, {seconds:.2f} s"

    return {
        "actions": [],
        "task_dep": [named("patch", steps)],
        "clean": [f"rm -rf {shlex.quote(str(steps.project.build))}"],
        "meta": {"closing": closing},
    }


def verify_task(steps: Steps) -> Task:
    """Prove what the image is and does: every claim checked against the files and a run."""

    def perform(
        claim: str, details: bool, strict: bool, before: bool, redirects: list[str], images: list[str]
    ) -> Failed | None:
        if images or redirects:
            from buildsys.front.verify import audit

            if claim or before:
                option = "--claim" if claim else "--before"
                return Failed(f"{option} is about the image of this project, and other images or redirects are named")
            return audit(images or [str(steps.image)], redirects, details, strict)
        if before:
            from buildsys.front.before import verify_before

            return verify_before(steps)
        from buildsys.front.verify import verify

        return verify(steps, claim, details, strict)

    return {
        "actions": [_to_the_end(perform)],
        "task_dep": [named("build", steps)],
        "uptodate": [False],
        "params": [
            {"name": "claim", "long": "claim", "default": "", "help": "check one claim, by number or name"},
            {"name": "details", "short": "v", "long": "details", "type": bool, "default": False,
             "help": "show the evidence of every claim"},
            {"name": "strict", "long": "strict", "type": bool, "default": False,
             "help": "fail if a claim could not be checked"},
            {"name": "before", "long": "before", "type": bool, "default": False,
             "help": "build the image broken as it was, .bss in flash, and show that it is found broken"},
            {"name": "redirects", "long": "redirect", "type": list, "default": [],
             "help": "OLD=NEW, repeatable: with images of other builds, what calls were to be redirected"},
        ],
        "pos_arg": "images",
        "verbosity": 2,
        "io": {"capture": False},
    }  # fmt: skip


def reach_task(steps: Steps) -> Task:
    """Say what the kernel can reach, and what of it bare metal has not: `doit reach [FUNCTION ...]`."""

    def perform(
        origin: str, as_json: bool, picture: str, unpatched: bool, strict: bool, details: bool, names: list[str]
    ) -> Failed | None:
        from buildsys.front.reach import Asked, reach

        return reach(steps, Asked(names, origin, as_json, picture, unpatched, strict, details))

    return _words(perform) | {
        "task_dep": [named("link", steps)],
        "params": [
            {"name": "origin", "long": "from", "default": "",
             "help": "begin at this function, not at the kernel's entry"},
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
            {"name": "picture", "long": "picture", "default": "", "help": "draw the ways to this file, as SVG"},
            {"name": "unpatched", "long": "unpatched", "type": bool, "default": False,
             "help": "as if nothing were redirected"},
            {"name": "strict", "long": "strict", "type": bool, "default": False,
             "help": "fail if something is reached that bare metal has not"},
            {"name": "details", "short": "v", "long": "details", "type": bool, "default": False,
             "help": "name every function of each service"},
        ],
        "pos_arg": "names",
        "meta": {"of_image": True},
    }  # fmt: skip


def size_task(steps: Steps) -> Task:
    """Say what takes the memory: by region, section, package, symbol; and what changed since: `--compare last`."""

    def perform(by: list[str], every: bool, compare: str, save: str, as_json: bool, names: list[str]) -> Failed | None:
        from buildsys.front.size import Asked, size

        return size(steps, Asked(by, every, compare, save, as_json, names))

    return _words(perform) | {
        "task_dep": [named("build", steps)],
        "params": [
            {"name": "by", "long": "by", "type": list, "default": [],
             "help": "which table: region, section, package, symbol or file; repeatable (default: the first three)"},
            {"name": "every", "long": "all", "type": bool, "default": False, "help": "every row of long tables"},
            {"name": "compare", "long": "compare", "default": "",
             "help": "what changed since: `last` (the build before), a name given to --save, a git revision"},
            {"name": "save", "long": "save", "default": "",
             "help": "save the sizes under this name, in build/sizes, or to this .json file"},
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
        ],
        "pos_arg": "names",
        "meta": {"of_image": True},
    }  # fmt: skip


def stack_task(steps: Steps) -> Task:
    """Say how deep each stack can get, and by which chain of calls: `doit stack [FUNCTION ...]`."""

    def perform(as_json: bool, details: bool, names: list[str]) -> Failed | None:
        from buildsys.front.stack import Asked, stack

        return stack(steps, Asked(names, as_json, details))

    return _words(perform) | {
        "task_dep": [named("build", steps)],
        "params": [
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
            {"name": "details", "short": "v", "long": "details", "type": bool, "default": False,
             "help": "name all that keeps a depth from being told"},
        ],
        "pos_arg": "names",
        "meta": {"of_image": True},
    }  # fmt: skip


def archive_task(steps: Steps) -> Task:
    """Write one zip file with all that a later debugging session needs: `doit archive [FILE]`."""

    def perform(names: list[str]) -> Failed | None:
        from buildsys.front.archive import archive

        return archive(steps, names)

    return _words(perform) | {
        "task_dep": [named("build", steps)],
        "pos_arg": "names",
        "meta": {"of_image": True},
    }


def run_embedded_task(steps: Steps) -> Task:
    """Boot the image on the embedded emulator (also: `doit run`)."""

    def perform(time_limit: float) -> Failed | None:
        from buildsys.front.boot import boot_embedded

        return boot_embedded(steps, time_limit)

    return _boot(steps, perform)


def run_qemu_task(steps: Steps) -> Task:
    """Boot the image on QEMU; the exit status is the guest's."""

    def perform(time_limit: float) -> Failed | None:
        from buildsys.front.boot import boot_qemu

        return boot_qemu(steps, time_limit)

    return _boot(steps, perform)


def debug_task(steps: Steps) -> Task:
    """Halt the image on QEMU and attach gdb, with symbols and Go sources, at the entry."""

    def perform(server: int, crash: str) -> Failed | None:
        from buildsys import files
        from buildsys.machines import gdb_startup
        from buildsys.machines.gdb import SCRIPT, debug, serve

        project = steps.project
        try:
            if crash:
                from buildsys.front.crash import debug_crash

                status = debug_crash(steps, crash)
            elif server:
                script = project.build / SCRIPT
                written = gdb_startup.script(steps.image, project.begins, project.package, steps.go.root)
                files.replace(script, written.encode())
                status = serve(steps.image, project.board, server, script)
            else:
                status = debug(steps.image, project.board, project.begins, project.package, steps.go.root)
        except UserError as error:
            return Failed(error)
        return Failed("", status) if status else None

    return {
        "actions": [perform],
        "task_dep": [named("build", steps)],
        "uptodate": [False],
        "params": [
            {"name": "server", "long": "server", "type": int, "default": 0,
             "help": "the port of localhost at which QEMU is to wait for a gdb started elsewhere"},
            {"name": "crash", "long": "crash", "default": "",
             "help": "a crash that was kept: its folder, or the image's identity"},
        ],
        "verbosity": 2,
        "io": {"capture": False},
    }  # fmt: skip


def crash_task(steps: Steps) -> Task:
    """Show the report of the last crash, or of the one in the folder named: `doit crash [DIR]`."""

    def perform(as_json: bool, names: list[str]) -> Failed | None:
        from buildsys.front.crash import crash

        return crash(steps, names, as_json)

    return _words(perform) | {
        "params": [
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
        ],
        "pos_arg": "names",
    }  # fmt: skip


def matrix_task(steps: Steps) -> Task:
    """Build, boot and verify the kernel with every Go, toolchain and emulator."""

    def perform(
        gos: str, toolchains: str, emulators: str, shard: str, jobs: int, merge: bool, strict: bool, output: str,
        names: list[str],
    ) -> Failed | None:  # fmt: skip
        from buildsys.front.matrix import Asked, matrix

        return matrix(steps, Asked(gos, toolchains, emulators, shard, jobs, merge, strict, output), names)

    return _words(perform) | {
        "params": [
            {"name": "gos", "long": "go", "default": "",
             "help": "which Gos, with commas, as `go` in [tool.buildsys] (default: the system's, and every line)"},
            {"name": "toolchains", "long": "toolchain", "default": "", "help": "which toolchains, with commas"},
            {"name": "emulators", "long": "emulator", "default": "", "help": "embedded, qemu or both, with a comma"},
            {"name": "shard", "long": "shard", "default": "", "help": "I/N: only the Ith of N parts"},
            {"name": "jobs", "long": "jobs", "type": int, "default": 0,
             "help": "how many images at a time (default: as many as there are processors)"},
            {"name": "merge", "long": "merge", "type": bool, "default": False,
             "help": "run nothing; merge the files named, the results of all parts"},
            {"name": "strict", "long": "strict", "type": bool, "default": False, "help": "fail if a cell did not run"},
            {"name": "output", "long": "output", "default": "", "help": "write the results to this file as well"},
        ],
        "pos_arg": "names",
    }  # fmt: skip


def go_test_task(steps: Steps) -> Task:
    """Boot the tests of Go packages, each package on a machine of its own: `doit go-test PATTERN ...`."""

    def perform(
        run: str, bench: str, count: int, cpu: int, time_limit: float, jobs: int, machine: str, board: str, memory: int,
        junit: str, patterns: list[str],
    ) -> Failed | None:  # fmt: skip
        from buildsys.front.gotest import Asked, go_test

        return go_test(steps, Asked(patterns, run, bench, count, cpu, time_limit, jobs, machine, board, memory, junit))

    return _words(perform) | {
        "params": [
            {"name": "run", "long": "run", "default": "", "help": "only tests that match this pattern of go test's"},
            {"name": "bench", "long": "bench", "default": "", "help": "benchmarks that match, too"},
            {"name": "count", "long": "count", "type": int, "default": 1, "help": "how often each test is run"},
            {"name": "cpu", "long": "cpu", "type": int, "default": 0,
             "help": "on how many processors Go's scheduler is to think it is (default: the machine's, one)"},
            {"name": "time_limit", "long": "time-limit", "type": float, "default": 0.0,
             "help": "seconds a boot may take (default: 600)"},
            {"name": "jobs", "long": "jobs", "type": int, "default": 0,
             "help": "how many packages at a time (default: as many as there are processors)"},
            {"name": "machine", "long": "machine", "default": "qemu",
             "help": "what the tests are run on: qemu or embedded"},
            {"name": "board", "long": "board", "default": "",
             "help": "the board, as in [tool.buildsys] (default: the one that is there)"},
            {"name": "memory", "long": "memory", "type": int, "default": 0,
             "help": "MiB of RAM (default: 1024, or what the board has if it has no choice)"},
            {"name": "junit", "long": "junit", "default": "", "help": "write the results to this file, as JUnit"},
        ],
        "pos_arg": "patterns",
    }  # fmt: skip


def watch_task(kernel: str = "") -> Task:
    """After each save: build, run, verify what changed; keys r, v, g, q."""

    def perform(machine: str, as_json: bool, time_limit: float) -> Failed | None:
        from buildsys.config.project import load
        from buildsys.front.watch import watch

        return watch(functools.partial(load, kernel=kernel), machine, as_json, time_limit)

    return _words(perform) | {
        "params": [
            {"name": "machine", "long": "machine", "default": "embedded",
             "help": "what the image is run on: embedded or qemu"},
            {"name": "as_json", "long": "json", "type": bool, "default": False,
             "help": "a line of JSON for each cycle, as without a terminal"},
            {"name": "time_limit", "long": "time-limit", "type": float, "default": 0.0,
             "help": "seconds after which a run is ended (default: `time-limit` in [tool.buildsys])"},
        ],
    }  # fmt: skip


def why_task(steps: Steps) -> Task:
    """Say why a step would be done again, or was: which input, parameter or tool changed, old and new value."""

    def perform(as_json: bool, names: list[str]) -> Failed | None:
        from buildsys.front.why import why

        return why(steps, names, as_json)

    return _words(perform) | {
        "params": [
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
        ],
        "pos_arg": "names",
    }  # fmt: skip


def doctor_task(steps: Steps) -> Task:
    """Say of every tool and wheel what is there and what is wanted, and the command that mends it."""

    def perform(as_json: bool) -> Failed | None:
        from buildsys.front.doctor import doctor

        return doctor(steps.project.root, as_json)

    return _words(perform) | {
        "params": [
            {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "everything, as JSON"},
        ],
    }


def help_topics_task(steps: Steps) -> Task:
    """Lead from what is seen to the page that explains it, and a command to try: `doit help-topics [WORD ...]`."""

    def perform(words: list[str]) -> Failed | None:
        from buildsys.front.topics import help_topics

        return help_topics(words)

    return _words(perform) | {"pos_arg": "words"}


def cache_info_task(steps: Steps) -> Task:
    """Tell what is kept for later builds, and where."""

    def perform() -> Failed | None:
        from buildsys.front.store import cache_info

        return cache_info(steps)

    return _words(perform)


def cache_prune_task(steps: Steps) -> Task:
    """Remove from the local cache what was not used for longest."""

    def perform(limit: str, everything: bool) -> Failed | None:
        from buildsys.front.store import cache_prune

        return cache_prune(steps, limit, everything)

    return _words(perform) | {
        "params": [
            {"name": "limit", "long": "limit", "default": "",
             "help": 'how much may stay, such as "500 MB" (default: `limit` in [tool.buildsys.cache])'},
            {"name": "everything", "long": "all", "type": bool, "default": False, "help": "nothing may stay"},
        ],
    }  # fmt: skip


def _words(perform: Callable[..., Failed | None]) -> Task:
    """A task that prints what it was asked."""
    return {"actions": [_to_the_end(perform)], "uptodate": [False], "verbosity": 2, "io": {"capture": False}}


def _boot(steps: Steps, perform: Callable[[float], Failed | None]) -> Task:
    return {
        "actions": [perform],
        "task_dep": [named("build", steps)],
        "uptodate": [False],
        "params": [
            {"name": "time_limit", "long": "time-limit", "type": float, "default": steps.project.time_limit,
             "help": "seconds after which the run is ended"},
        ],
        "verbosity": 2,
        "io": {"capture": False},
    }  # fmt: skip


def _to_the_end(perform: Callable[..., Failed | None]) -> Callable[..., Failed | None]:
    """`perform`, ended in silence if the reader of its output goes away."""

    @functools.wraps(perform)
    def performed(*args: Any, **options: Any) -> Failed | None:
        try:
            return perform(*args, **options)
        except BrokenPipeError:
            hang_up()
            return Failed("", HUNG_UP)

    return performed


def _found(steps: Steps) -> bool:
    try:
        return bool(steps.go)
    except UserError:
        return False
