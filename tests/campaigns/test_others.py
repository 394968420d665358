"""A kernel that somebody else wrote, in states of its history, with configuration alone: built, booted and proved.

Nothing of it is here. BUILDSYS_MAZARIN names a clone of the public repository that this project began with
(github.com/iansmith/mazarin): `git clone` it, and run `pytest tests/campaigns/test_others.py`. Each state is
unpacked as it is, and only a board, a buildsys.toml and a dodo.py are put beside it.

With the boot code of buildsys every claim holds of each. With their own, which is linked as it is, all but one do:
it never gives `runtime.g0` the bounds of its stack, so that no function sees the stack's end, and leaves the MMU off.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

CLONE = os.environ.get("BUILDSYS_MAZARIN", "")
BOARD = (ROOT / "tests" / "kernels" / "foreign" / "virt.toml").read_text("utf-8")
# 1 GiB of RAM; what QEMU 7.2 has in its directory; an interrupt controller that is set up and, here, never interrupts.
BOARD = BOARD.replace('0x10000000\nkind = "ram"', '0x40000000\nkind = "ram"').replace("256M", "1G")
BOARD = re.sub(r"files = .*", 'files = ["0", "1", "2", "3", "4", "etc/ramfb", "6", "7", "8", "9"]', BOARD)
BOARD += '\n[device.gic]\nmodel = "registers"\nbase = 0x08000000\nsize = 0x20000\n'

FLAG, END = ("0x40026b40", '"runtime.writeBarrier"'), ("__end", '"__heap_low"')
# What their lib.s takes for the address of runtime.g0: one shifted too far, one of another image.
G_SHIFTED, G_LONG_AGO = (("0x331a0000", '"runtime.g0"'), ("0x40100ce0", '"runtime.g0"'))
NOTHING = ('"main.initRuntimeStubs"', '"buildsys.nothing"')
PACK = ('"mazarin/bitfield.PackPageFlags"', '"buildsys.unexpected"')
DELAY = ('"busy_wait"', '"buildsys.nothing"')  # of seconds, between lines on the screen
VECTORS = ("0x2a5000", '"exception_vectors"')
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class State:
    """A commit, and what it needs: the line it ends with (none if it exits), tables, assembly, tags."""

    commit: str
    until: str
    symbols: Pairs = (END,)
    redirect: Pairs = (NOTHING, PACK)
    literals: tuple[tuple[str, Pairs], ...] = (("main.KernelMain", (FLAG,)),)
    assembly: tuple[str, ...] = ("lib",)
    tags: tuple[str, ...] = ("qemu",)
    go: str = "1.25.5"
    package: str = "src/go/mazarin"
    folder: str = "src/asm"
    started: tuple[tuple[str, Pairs], ...] = (("_start", (FLAG,)), ("kernel_main", (G_SHIFTED,)))

    def settings(self, author: str, own_boot: bool) -> str:
        """buildsys.toml; `author` is the folder that absolute names in the sources begin with.

        `started` are the numbers in the code that is only there, or only matters, with their own boot file.
        """
        lines = [
            f'package = "{self.package}"',
            f'go = "{self.go}"',
            f"tags = {json.dumps(self.tags)}",
            f"assembly = {json.dumps([f'{self.folder}/{name}.s' for name in self.assembly])}",
            "entry-arguments = [0, 0, 0]",
            'board = "virt.toml"',
            *([f"until = {json.dumps(self.until)}"] if self.until else []),
            *([f'boot = "{self.folder}/boot.s"', "time-limit = 90"] if own_boot else []),
        ]
        tables: list[tuple[str, Pairs]] = [("symbols", self.symbols), ("redirect", self.redirect)]
        tables += [
            (f'literals."{function}"', pairs)
            for function, pairs in (*self.literals, *(self.started if own_boot else ()))
        ]
        tables += [("sections", (('".vectors"', '"ax"'),))] if "exceptions" in self.assembly else []
        tables += [("paths", ((json.dumps(author), '"."'),))] if author else []
        for name, pairs in tables:
            lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in pairs)] if pairs else []
        return "\n".join([*lines, ""])


LATER, BOTH, IMAGE = ("qemuvirt", "aarch64"), ("lib", "exceptions"), ("lib", "exceptions", "image")
BODY = (("main.kernelMainBody", (FLAG,)), ("main.InitializeExceptions", (VECTORS,)))
LOOP, RUNNING = "Press Ctrl+C in QEMU to exit", "Kernel still running..."
TABLE = (END, ('"main.exception_vectors_start"', '"exception_vectors"'))
G, M = "runtime.g0", "runtime.m0"
STUBS = tuple(
    (number, place if place[:2] == "0x" else f'"{place}"')
    for number, place in (
        ("0x40100ce0", G), ("0x40100ce8", f"{G} + 8"), ("0x40100cf0", f"{G} + 16"), ("0x40100cf8", f"{G} + 24"),
        ("0x40100d10", f"{G} + 48"), ("0x401013e0", M), ("0x401014a8", f"{M} + 200"),
        ("0x5effe000", "__stack_low"), ("0x5effe3a0", "__stack_low + 0x3a0"),
        ("0x601000", "0x47601000"), ("0x601498", "0x47601498"), ("0x6014a0", "0x476014a0"), ("0x611000", "0x47611000"),
    )
)  # fmt: skip
STATES = (
    State("d3b04a4", "", symbols=(), redirect=(NOTHING,)),
    State("1973825", "FB: Periodic refresh (loop 0)", symbols=(), redirect=(NOTHING,)),
    State("05ffdb7", "FB: Periodic refresh (loop 0x00000000)", symbols=(), redirect=(NOTHING,)),
    State("d7591d9", "FB: Periodic refresh (loop 0x00000000)"),
    State("a9cc158", LOOP),
    State("2f06aa5", LOOP),
    State("e433835", LOOP),
    State("ea4f10b", RUNNING, TABLE, assembly=BOTH, tags=LATER),
    State("f3b6e99", RUNNING, TABLE, assembly=BOTH, tags=LATER),
    State("0ce49ad", RUNNING, assembly=BOTH, tags=LATER),
    State("8a397d3", RUNNING, redirect=(NOTHING, PACK, DELAY), assembly=IMAGE, tags=LATER, go="1.23.9"),
    State("7a42001", "DEBUG: KernelMain about to return", literals=BODY, assembly=IMAGE, tags=LATER),
    State("0294854", "DEBUG: KernelMain about to return", literals=BODY, assembly=IMAGE, tags=LATER),
    State(
        "557e33b",
        "DEBUG: Switching to main goroutine stack via g0...",
        redirect=(),
        literals=(
            ("main.kernelMainBody", (FLAG,)),
            ("main.createKernelGoroutine", (("0x401013e0", f'"{M}"'),)),
            ("main.initRuntimeStubs", STUBS),
        ),
        assembly=(*IMAGE, "goroutine", "get_caller_sp"),
        tags=LATER,
        package="src/mazboot/golang/main",
        folder="src/mazboot/asm/aarch64",
        started=(("_start", (FLAG,)), ("kernel_main", (G_LONG_AGO,))),
    ),
)


# Their boot code takes what a loader put into RAM for the image: it copies nothing. So the code is in RAM, too, far up.
LOADED = (
    BOARD.replace("cpu = ", "cores = 1\ncpu = ", 1)
    .replace("text = 0x00200000", "text = 0x78000000")
    .replace('0x40000000\nkind = "ram"', '0x38000000\nkind = "ram"')
    .replace("[layout]", '[memory.code]\norigin = 0x78000000\nlength = 0x08000000\nkind = "ram"\n\n[layout]')
)


@pytest.mark.campaign
@pytest.mark.skipif(not CLONE, reason="BUILDSYS_MAZARIN names no clone of the repository")
@pytest.mark.parametrize("own_boot", [False, True], ids=["ours", "theirs"])
@pytest.mark.parametrize("state", STATES, ids=[state.commit for state in STATES])
def test_a_state_of_it_is_built_booted_and_proved(state: State, own_boot: bool, tmp_path: Path) -> None:
    packed = subprocess.run(["git", "-C", CLONE, "ls-tree", "-r", "--name-only", state.commit, "src", "assets"],
                            check=True, capture_output=True, text=True).stdout.splitlines()  # fmt: skip
    wanted = [name for name in packed if name.startswith("src/") or name.endswith(".bin")]
    # A binary somebody committed is large, and no source.
    wanted = [name for name in wanted if Path(name).suffix or Path(name).name == "Makefile"]
    archive = subprocess.run(["git", "-C", CLONE, "archive", state.commit, *wanted], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extraction_filter = getattr(tarfile, "data_filter", None)
        files.extractall(tmp_path)
    absolute = re.compile(r'\.incbin\s+"(/.*?)/assets/')
    found = [absolute.search(path.read_text("utf-8")) for path in tmp_path.rglob("*.s")]
    (tmp_path / "virt.toml").write_text(LOADED if own_boot else BOARD)
    (tmp_path / "buildsys.toml").write_text(state.settings(next((each[1] for each in found if each), ""), own_boot))
    (tmp_path / "dodo.py").write_text("from buildsys.tasks import DOIT_CONFIG, task_kernel  # noqa: F401\n")
    before = contents(tmp_path)
    done = subprocess.run(
        [Path(sys.executable).with_name("doit"), "verify", "--strict"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    claims = {each["name"]: each for each in json.loads((tmp_path / "build" / "verify.json").read_text())["claims"]}
    failed = {name for name, each in claims.items() if each["result"] != "passed"}
    if own_boot:
        assert failed == {"boot-code"}, done.stdout + done.stderr
        *bounds, stack, mmu, tables = claims["boot-code"]["evidence"]["problems"]
        assert [re.sub(r" at .*? is 0x0, .*", "", each) for each in bounds] == [
            f"runtime.g0.{field}" for field in ("stack.lo", "stack.hi", "stackguard0", "stackguard1")
        ]
        assert re.match(r"sp is 0x(40400000|5f000000|5ffffff0|5efffff0|60000000) at the call", stack)
        assert mmu.startswith("the MMU and both caches")
        assert tables.startswith("what boot code writes to TTBR0_EL1")
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert "13 of 13 claims hold" in done.stdout
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """The sources as they are."""
    return {path: path.read_bytes() for path in (folder / "src").rglob("*") if path.is_file()}
