"""What is made from what. `doit list` shows the tasks; this page is all of them.

src/*.go ──compile──▶ build/kernel.a ─▶ go.o ──runtime──▶ runtime.json
                                         │                    │
templates/*.j2, linker/*.j2, board ──────┴───────link─────────┴─▶ kernel.unpatched.elf
                                                                          │
                                                      kernel.elf ◀──patch─┘

kernel.elf ──▶ run-qemu, run (embedded emulator), verify, debug
"""

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


def task_run_embedded() -> Task:
    """Boot the image on the embedded emulator (also: `doit run`)."""
    return {"basename": "run-embedded", **chain.run_embedded_task(STEPS)}


def task_run_qemu() -> Task:
    """Boot the image on QEMU; the exit status is the guest's."""
    return {"basename": "run-qemu", **chain.run_qemu_task(STEPS)}
