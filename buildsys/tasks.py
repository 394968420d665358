"""Every task of a kernel project; all that its dodo.py needs.

    from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401

doit calls `task_kernel`, which makes a task of each name in `TASKS`. With several
kernels (`[tool.buildsys.kernel.NAME]`) each of these is a group, `build`, of one task
for each kernel, `build:NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from buildsys.front import chain
from buildsys.front.chain import DOIT_CONFIG, Task
from buildsys.front.steps import Steps

__all__ = ["DOIT_CONFIG", "Task", "task_kernel"]


def watch_task(steps: Steps) -> Task:
    """After each save: build, run, verify what changed; keys r, v, g, q."""
    return chain.watch_task(steps.project.kernel)


TASKS: dict[str, Callable[[Steps], Task]] = {
    "compile": chain.compile_task,
    "runtime": chain.runtime_task,
    "link": chain.link_task,
    "patch": chain.patch_task,
    "build": chain.build_task,
    "verify": chain.verify_task,
    "reach": chain.reach_task,
    "size": chain.size_task,
    "stack": chain.stack_task,
    "archive": chain.archive_task,
    "run-embedded": chain.run_embedded_task,
    "run-qemu": chain.run_qemu_task,
    "debug": chain.debug_task,
    "crash": chain.crash_task,
    "watch": watch_task,
    "why": chain.why_task,
    "matrix": chain.matrix_task,
    "go-test": chain.go_test_task,
}
# These are about the machine, and all that is kept, whichever kernel it is of.
OF_THE_PROJECT: dict[str, Callable[[Steps], Task]] = {
    "doctor": chain.doctor_task,
    "help-topics": chain.help_topics_task,
    "cache-info": chain.cache_info_task,
    "cache-prune": chain.cache_prune_task,
}


def task_kernel() -> Iterator[Task]:
    """Every task of the kernels that the project in the working folder describes."""
    steps = chain.kernels_steps()
    for name, make in TASKS.items():
        doc = _sentence(make)
        if steps[0].project.kernel:
            made = [make(each) for each in steps]
            yield {"basename": name, "name": None, "doc": doc, "meta": _together(made)}
            for each, task in zip(steps, made, strict=True):
                yield {"basename": name, "name": each.project.kernel, "doc": doc, **task}
        else:
            yield {"basename": name, "doc": doc, **make(steps[0])}
    for name, make in OF_THE_PROJECT.items():
        yield {"basename": name, "doc": _sentence(make), **make(steps[0])}


def _sentence(make: Callable[..., Task]) -> str:
    return (make.__doc__ or "").splitlines()[0]


def _together(tasks: Sequence[Task]) -> dict[str, Callable[[bool, float], str]]:
    """What the group of `tasks` has to say when it is done: what each has."""
    closings = [task["meta"]["closing"] for task in tasks if "closing" in task.get("meta", {})]
    return {"closing": lambda built, seconds: "\n".join(say(built, seconds) for say in closings)} if closings else {}
