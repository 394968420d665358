"""Real images: one object linked by lld and by GNU ld, and small programs of one's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from buildsys.config.project import load
from buildsys.front.steps import Steps
from buildsys.toolchains import choice
from tests.conftest import copy_project

# A slow machine is not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

Program = Callable[..., Path]


@pytest.fixture(scope="session")
def images(built: Steps, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reference kernel before patching, by the linker that made it."""
    root = copy_project(tmp_path_factory.mktemp("gnu"))
    steps = Steps(replace(load(root), toolchain="gnu"))
    steps.project.build.mkdir()
    shutil.copy2(built.go_object, steps.go_object)
    shutil.copy2(built.runtime_json, steps.runtime_json)
    steps.records.perform(steps.link())
    return {"lld": built.unpatched, "GNU ld": steps.unpatched}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Link assembly sources, a module each, code at 2 MiB and data after it; gives the image."""
    zig = choice.find("zig")

    def make(*sources: str) -> Path:
        objects = []
        for number, source in enumerate(sources):
            path = tmp_path / f"part{number}.s"
            path.write_text(source)
            zig.assemble(path, path.with_suffix(".o"))
            objects.append(path.with_suffix(".o"))
        script = tmp_path / "program.ld"
        script.write_text(SCRIPT)
        zig.link(script, objects, tmp_path / "program.elf")
        return tmp_path / "program.elf"

    return make


SCRIPT = """
SECTIONS {
    . = 2M;
    .text : { *(.text*) }
    .rodata : { *(.rodata*) }
    .data : { *(.data*) }
    .bss : { *(.bss*) }
    .symtab 0 : { *(.symtab) } .strtab 0 : { *(.strtab) } .shstrtab 0 : { *(.shstrtab) } .comment 0 : { *(.comment) }
}
"""


def compiled(folder: Path, target: str) -> Path:
    """An object for another machine."""
    source, made = folder / "other.s", folder / f"{target}.o"
    source.write_text(".globl start\nstart: nop\n")
    zig = choice.find("zig").assembler[0]
    subprocess.run([zig, "clang", "-target", target, "-c", source, "-o", made], check=True)
    return made
