"""What is made from what. `doit list` shows the tasks; this page is all of them.

src/*.go ──compile──▶ build/go.o ──runtime──▶ runtime.json
                           │                        │
templates/*.j2,            │                        │
linker/*.j2, board ────────┴─────────link───────────┴─▶ kernel.unpatched.elf, kernel.a
                                                                 │
                                             kernel.elf ◀──patch─┘

kernel.elf ──▶ run-qemu, run (embedded emulator), verify, debug, crash, size, stack, archive; watch does it at each save
src/*.go ──▶ matrix: all of the above with every Go, toolchain and emulator
any package's *_test.go ──▶ go-test: built as a program beside the supervisor, and booted
every step ──▶ kept by its action key: why, cache-info, cache-prune

The last five tasks are this repository's own: lint, test, test-all, docs, bench.
"""

import sys

from buildsys.front import chain
from buildsys.front.chain import DOIT_CONFIG, Task  # noqa: F401  doit reads DOIT_CONFIG

STEPS = chain.project_steps()


def task_compile() -> Task:
    """Compile the kernel package with the stock Go toolchain: src/*.go → build/go.o."""
    return chain.compile_task(STEPS)


def task_runtime() -> Task:
    """Read field offsets and the functions to take over: build/go.o → build/runtime.json."""
    return chain.runtime_task(STEPS)


def task_link() -> Task:
    """Render, assemble and link until addresses hold still: → build/kernel.unpatched.elf."""
    return chain.link_task(STEPS)


def task_patch() -> Task:
    """Redirect every call site to our functions: → build/kernel.elf, build/patch.json."""
    return chain.patch_task(STEPS)


def task_build() -> Task:
    """Build the image (what `doit` alone does)."""
    return chain.build_task(STEPS)


def task_verify() -> Task:
    """Prove what the image is and does: every claim checked against the files and a run."""
    return chain.verify_task(STEPS)


def task_reach() -> Task:
    """Say what the kernel can reach, and what of it bare metal has not: `doit reach [FUNCTION ...]`."""
    return chain.reach_task(STEPS)


def task_size() -> Task:
    """Say what takes the memory, by region, section, package, symbol; and what changed: `--compare last`."""
    return chain.size_task(STEPS)


def task_stack() -> Task:
    """Say how deep each stack can get, and by which chain of calls: `doit stack [FUNCTION ...]`."""
    return chain.stack_task(STEPS)


def task_archive() -> Task:
    """Write one zip file with all that a later debugging session needs: `doit archive [FILE]`."""
    return chain.archive_task(STEPS)


def task_matrix() -> Task:
    """Build, boot and verify the kernel with every Go, toolchain and emulator."""
    return chain.matrix_task(STEPS)


def task_go_test() -> Task:
    """Boot the tests of Go packages, each package on a machine of its own: `doit go-test PATTERN ...`."""
    return {"basename": "go-test", **chain.go_test_task(STEPS)}


def task_run_embedded() -> Task:
    """Boot the image on the embedded emulator (also: `doit run`)."""
    return {"basename": "run-embedded", **chain.run_embedded_task(STEPS)}


def task_run_qemu() -> Task:
    """Boot the image on QEMU; the exit status is the guest's."""
    return {"basename": "run-qemu", **chain.run_qemu_task(STEPS)}


def task_debug() -> Task:
    """Halt the image on QEMU and attach gdb, with symbols and Go sources, at the entry."""
    return chain.debug_task(STEPS)


def task_crash() -> Task:
    """Show why the last run failed, or the crash in a folder: `doit crash [DIR]`."""
    return chain.crash_task(STEPS)


def task_watch() -> Task:
    """Build, run and verify after each save, in one warm process; keys r, v, g, q."""
    return chain.watch_task()


def task_why() -> Task:
    """Say why steps would be done again, or were: `doit why [STEP ...]`."""
    return chain.why_task(STEPS)


def task_doctor() -> Task:
    """Say of every tool and wheel what is there and what is wanted, and the command that mends it."""
    return chain.doctor_task(STEPS)


def task_help_topics() -> Task:
    """Lead from what is seen to the page that explains it, and a command to try: `doit help-topics [WORD ...]`."""
    return {"basename": "help-topics", **chain.help_topics_task(STEPS)}


def task_cache_info() -> Task:
    """Tell what is kept for later builds, and where."""
    return {"basename": "cache-info", **chain.cache_info_task(STEPS)}


def task_cache_prune() -> Task:
    """Remove from the local cache what was not used for longest."""
    return {"basename": "cache-prune", **chain.cache_prune_task(STEPS)}


def task_lint() -> Task:
    """Check style and types of everything: ruff, mypy, gofmt, go vet."""
    return _tool(
        [sys.executable, "-m", "ruff", "check", "--quiet", "."],
        [sys.executable, "-m", "ruff", "format", "--quiet", "--check", "."],
        [sys.executable, "-m", "mypy"],
        [sys.executable, "-m", "tests.golint", "src", "tests/kernels"],
    )


def task_test() -> Task:
    """Run the whole test suite, after lint."""
    return _tool(_pytest("not campaign")) | {"task_dep": ["lint"]}


def task_test_all() -> Task:
    """Run the test suite and the long campaigns behind it (hours)."""
    return {"basename": "test-all", **_tool(_pytest("")), "task_dep": ["lint"]}


def task_docs() -> Task:
    """Write the generated parts of the documents anew: figures, tables, what commands print."""
    return _tool([sys.executable, "-m", "docs.generate"]) | {"task_dep": ["build"]}


def task_bench() -> Task:
    """Measure what the project promises of its speed: medians, and ratios taken in one run."""
    return _tool([sys.executable, "-m", "tests.benchmarks"])


def _tool(*commands: list[str]) -> Task:
    return {"actions": list(commands), "verbosity": 2, "io": {"capture": False}, "uptodate": [False]}


def _pytest(marked: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", marked]
