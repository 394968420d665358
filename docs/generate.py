"""Fills the generated parts of the documents: `doit docs` writes them, a test asks whether they are true.

A part is what stands between `<!-- generated: NAME -->` and `<!-- end -->`. NAME is
one of the functions in PARTS, or `run COMMAND`: the command, in a block, and what it
printed. Times differ from run to run and are compared without their digits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from buildsys.config import board as boards
from buildsys.config.board import Board
from buildsys.config.project import load
from buildsys.errors import UserError
from buildsys.formats.elf import PF_R, PF_W, PF_X, PT_LOAD, Elf
from buildsys.front.steps import Steps
from docs import programs

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "docs/write-barrier.md",
    "docs/barriers.md",
    "docs/memory-map.md",
    "docs/architecture.md",
    "docs/verify.md",
    "docs/cache.md",
    "docs/your-kernel.md",
    "docs/redirects.md",
    "docs/sets.md",
    "docs/matrix.md",
    "docs/go-test.md",
    "docs/reach.md",
    "docs/patching.md",
    "docs/size.md",
    "docs/doctor.md",
    "docs/debugging.md",
    "docs/programs.md",
)
PART = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
LARGER = "make `stack` or `exception-stack` in the board's [layout] larger"
TIMES = re.compile(r"\d+(\.\d+)? *(s|ms)\b")


def filled(text: str) -> str:
    """`text` with every generated part made anew."""
    return PART.sub(lambda part: part[1] + _part(part[2]).rstrip("\n") + "\n" + part[4], text)


def without_times(text: str) -> str:
    """`text` with every time and every run of spaces made the same."""
    return re.sub(r" +", " ", TIMES.sub("TIME", text))


def _part(name: str) -> str:
    if name.startswith("run "):
        return run(name.removeprefix("run "))
    return PARTS[name]()


def run(command: str) -> str:
    """A block with the command and what it prints; doit and python are those of this environment."""
    tools = {"doit": "doit", "./dev": "doit", "python": "python"}
    words = command.split()
    words[0] = str(Path(sys.executable).with_name(tools[words[0]])) if words[0] in tools else words[0]
    done = subprocess.run(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    lines = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    return f"```\n$ {command}\n{lines}\n```"


def cache_story() -> str:
    """A build, and one in a clone beside it, with an empty cache to begin with."""
    told = []
    with tempfile.TemporaryDirectory() as folder:
        kept = {**os.environ, "BUILDSYS_CACHE": str(Path(folder, "cache"))}
        for name in ("first", "second"):
            clone = Path(folder, name)
            ignored = shutil.ignore_patterns(".*", "build", "__pycache__")
            shutil.copytree(ROOT, clone, ignore=ignored)
            doit = Path(sys.executable).with_name("doit")
            done = subprocess.run([doit, "build"], cwd=clone, env=kept, stdout=subprocess.PIPE, text=True, check=True)
            told.append(f"{name}$ doit build\n{done.stdout}")
    lines = [line.rstrip() for line in "".join(told).splitlines()]
    return "\n".join(["```", *lines, "```"])


def go_test() -> str:
    """What became of the standard library's own tests, from docs/go-test.json."""
    from tests.gotest.standard import markdown, rows

    return markdown(list(rows().values()))


def matrix() -> str:
    """The table of the last whole `doit matrix`, from docs/matrix.json."""
    from buildsys.matrix.results import read
    from buildsys.matrix.show import markdown

    return markdown(read(ROOT / "docs" / "matrix.json"))


def board_maps() -> str:
    """A section for each board: what it is, its regions, and the reference kernel laid out on it."""
    first = "qemu-virt"
    names = [first, *(name for name in boards.names() if name != first)]
    return "\n\n".join(_board_section(boards.load(name, "docs")) for name in names)


def _board_section(board: Board) -> str:
    level = f"A core leaves reset at EL{board.exception_level}."
    rows = [f"## `{board.name}`", "", f"{board.description}. {level}", ""]
    rows += ["| from | to | region | kind |", "|---|---|---|---|"]
    for region in sorted(board.regions, key=lambda region: region.origin):
        rows.append(f"| `{region.origin:#010x}` | `{region.end - 1:#010x}` | {region.name} | {region.kind} |")
    return "\n".join([*rows, "", _image_map(board)])


def _image_map(board: Board) -> str:
    """The segments of the image, where they live and where their bytes are stored."""
    elf = Elf.read(ROOT / "build" / "kernel.elf")
    if board != load(ROOT).board:
        with tempfile.TemporaryDirectory(prefix="buildsys-docs-") as folder:
            elf = _built_for(board, Path(folder))
    rows = ["| lives at | stored at | bytes | in the file | access | sections |", "|---|---|---|---|---|---|"]
    for segment in elf.segments:
        if segment.kind != PT_LOAD:
            continue
        inside = [
            section.name
            for section in elf.sections
            if section.flags & 2 and segment.vma <= section.address < segment.vma + max(segment.memory_size, 1)
        ]
        access = "".join(letter for bit, letter in ((PF_R, "r"), (PF_W, "w"), (PF_X, "x")) if segment.flags & bit)
        lives = f"`{segment.vma:#010x}` {_region(board, segment.vma)}"
        stored = f"`{segment.lma:#010x}` {_region(board, segment.lma)}" if segment.file_size else "nowhere"
        names = " ".join(f"`{name}`" for name in inside)
        rows.append(f"| {lives} | {stored} | {segment.memory_size:,} | {segment.file_size:,} | {access} | {names} |")
    bounds = (
        "__exception_stack_guard", "__exception_stack_low", "__exception_stack_high",
        "__stack_guard", "__stack_low", "__stack_high", "__heap_low", "__heap_high",
    )  # fmt: skip
    found = elf.symbols.addresses(*bounds)
    rows += ["", "| boundary | address |", "|---|---|"]
    rows += [f"| `{name}` | `{found[name]:#010x}` |" for name in bounds]
    return "\n".join(rows)


def _built_for(board: Board, folder: Path) -> Elf:
    """The reference kernel's Go object, linked for another board in `folder`."""
    project = dataclasses.replace(load(ROOT), root=folder, board=board)
    project.build.mkdir()
    for name in ("go.o", "runtime.json", "directives.json"):
        shutil.copy2(ROOT / "build" / name, project.build)
    steps = Steps(project)
    for action in (steps.link, steps.patch):
        steps.records.perform(action())
    return Elf.read(steps.image)


def overlap() -> str:
    """What is said of a board whose regions overlap: the default one with a larger RAM that begins lower."""
    text = (boards.BOARDS / "qemu-virt.toml").read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="buildsys-docs-") as folder:
        mine = Path(folder) / "mine.toml"
        mine.write_text(text.replace("origin = 0x40000000", "origin = 0x3f000000"), "utf-8")
        try:
            boards.load(str(mine), "docs")
        except UserError as error:
            return f"```\nerror: {error.message}\n\nhint: {error.hint}\n```".replace(f"{folder}/", "")
    raise AssertionError("these regions overlap")


def _region(board: Board, address: int) -> str:
    region = board.region_at(address)
    return region.name if region else "nowhere"


def barrier_table() -> str:
    """Each barrier function: the runtime's address, ours, and how many calls were redirected."""
    report = json.loads((ROOT / "build" / "patch.json").read_text())
    rows = ["| function | Go's (`t`) | ours (`T`) | calls redirected |", "|---|---|---|---|"]
    for function in report["functions"]:
        if function["kind"] == "barrier":
            row = (function["name"], function["old"], function["new"], function["count"])
            rows.append("| `{}` | `{}` | `{}` | {} |".format(*row))
    rows.append(f"| together | | | {report['barrier_sites']} |")
    return "\n".join(rows)


def claims() -> str:
    """The claims, numbered as verify numbers them."""
    from buildsys.proof.claims import CLAIMS

    rows = ["| | name | claim |", "|---|---|---|"]
    rows += [f"| {number} | `{claim.name}` | {claim.title} |" for number, claim in enumerate(CLAIMS, 1)]
    return "\n".join(rows)


def program_claims() -> str:
    """What is claimed besides of an image with a program, numbered likewise."""
    from buildsys.proof.claims import CLAIMS, OF_PROGRAMS

    rows = ["| | name | claim |", "|---|---|---|"]
    first = len(CLAIMS) + 1
    rows += [f"| {number} | `{claim.name}` | {claim.title} |" for number, claim in enumerate(OF_PROGRAMS, first)]
    return "\n".join(rows)


def after_a_run(settings: str, source: str = "", shown: int = 100) -> str:
    """What `doit run` says when the reference kernel, with these settings and this source file, has ended."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        clone.mkdir()
        for name in ("src", "templates", "linker"):
            shutil.copytree(ROOT / name, clone / name)
        shutil.copy2(ROOT / "dodo.py", clone)
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        (clone / "pyproject.toml").write_text(text.replace("[tool.buildsys]\n", f"[tool.buildsys]\n{settings}\n", 1))
        if source:
            (clone / "src" / "batches.go").write_text(source)
            main = clone / "src" / "main.go"
            main.write_text(main.read_text("utf-8").replace("func main() {\n", "func main() {\n\tonBarrier(nil)\n", 1))
        doit = Path(sys.executable).with_name("doit")
        subprocess.run([doit, "build"], cwd=clone, check=True, capture_output=True)
        done = subprocess.run([doit, "run"], cwd=clone, check=True, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    cut = [*lines[: shown + 1], "…", lines[-1]] if len(lines) > shown + 2 else lines
    return "\n".join(["```", "$ doit run", "…", *cut, "```"])


GROWN = """package main

var grown = [512]byte{1, 2, 3}

func init() { grown[0]++ }
"""


def size_changed() -> str:
    """What `doit size --compare last` says of the reference kernel with a table more."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "build", "__pycache__"))
        doit = Path(sys.executable).with_name("doit")
        subprocess.run([doit, "build"], cwd=clone, check=True, capture_output=True)
        (clone / "src" / "grown.go").write_text(GROWN)
        command = ["size", "--compare", "last"]
        done = subprocess.run([doit, "-r", "quiet", *command], cwd=clone, check=True, stdout=subprocess.PIPE, text=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(["```", f"$ doit {' '.join(command)}", *lines, "```"])


def doctor() -> str:
    """`doit doctor` where the system has no programs; what every machine has its own of is left out."""
    own = Path(sys.executable).parent
    done = subprocess.run(
        [own / "doit", "doctor"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(own)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    differing = re.compile(r"^\w+ +(Python|build folder|local cache)\b")
    lines = [line.rstrip() for line in done.stdout.splitlines() if not differing.match(line)]
    return "\n".join(["```", "$ doit doctor", "…", *lines, "```"])


def archive_contents() -> str:
    """The README of an archive."""
    from buildsys.front.archive import ABOUT

    return f"```\n{ABOUT}```"


def batches() -> str:
    """The Go file of docs/barriers.md that receives batches."""
    page = (ROOT / "docs" / "barriers.md").read_text("utf-8")
    found = re.search(r"```go\n(package main\n.*?)```", page, re.DOTALL)
    assert found is not None, "docs/barriers.md shows a function that receives batches"
    return found[1]


def barrier_costs() -> str:
    """Instructions of each policy's barriers, counted on the embedded emulator in runs of the reference kernel."""
    from docs.costs import table

    return table(load(ROOT))


PRINTLN = """package main

import "fmt"

func main() { KernelMain() }

//go:noinline
func KernelMain() int32 {
	fmt.Println("hello")
	return 0
}
"""


def println(command: str) -> str:
    """What `command` prints in a project that `buildsys new` wrote, its kernel being PRINTLN."""
    with tempfile.TemporaryDirectory(prefix="buildsys-docs-") as folder:
        project = Path(folder, "kernel")
        bin_ = Path(sys.executable)
        subprocess.run([bin_.with_name("buildsys"), "new", project], check=True, capture_output=True)
        (project / "src" / "main.go").write_text(PRINTLN, "utf-8")
        doit = [str(bin_.with_name("doit")), "-r", "quiet"]
        done = subprocess.run(
            [*doit, *command.split()],
            cwd=project,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        drawn = project / "reach.svg"
        return drawn.read_text("utf-8") if drawn.exists() else done.stdout


def println_reach() -> str:
    """A kernel that calls fmt.Println, explained."""
    lines = [line.rstrip() for line in println("reach").splitlines()]
    return "\n".join(["```", "$ doit reach", *lines, "```"])


def println_way() -> str:
    """The way to one function of it."""
    lines = [line.rstrip() for line in println("reach runtime.mallocgc").splitlines()]
    return "\n".join(["```", "$ doit reach runtime.mallocgc", *lines, "```"])


def services() -> str:
    """The services that are told apart."""
    from buildsys.go.services import services

    rows = ["| service | why bare metal has it not |", "|---|---|"]
    rows += [f"| {each.name} | {each.why} |" for each in services()]
    return "\n".join(rows)


# Whole files that are made, by their names.
PICTURES: dict[str, Callable[[], str]] = {
    "docs/reach.svg": lambda: println("reach --picture reach.svg"),
    "docs/programs.svg": programs.picture,
}

LEDGER = """package main

// Pages are what an account has, by its number.
var pages = []int{20, 30, 50}

//go:noinline
func balance(account int) int {
\treturn pages[account]
}
"""


def panicking() -> str:
    """A kernel of `buildsys new` that prints something and then panics: what is in it, and what it says."""
    uses = '\tprintln("balance:", balance(1), 0.5)\n\tprintln("balance:", balance(3))\n'
    said = _kernel_of_ones_own({"ledger.go": LEDGER}, uses, 2, ["print", "panic"])
    return "\n".join(["```go", LEDGER.rstrip(), "```", "", "```", *said, "```"])


SQUARES = """package main

import "strconv"

// squares gives the words for the first n squares, and how many have each length.
//
//go:noinline
func squares(n int) (words []string, lengths map[int]int) {
\tlengths = map[int]int{}
\tfor i := 1; i <= n; i++ {
\t\twords = append(words, strconv.Itoa(i*i))
\t\tlengths[len(words[i-1])]++
\t}
\treturn words, lengths
}
"""


def allocating() -> str:
    """A kernel of `buildsys new` that allocates: what is in it, and what it says."""
    uses = '\twords, lengths := squares(12)\n\tprintln(words[2]+" … "+words[11], lengths[1], lengths[2], lengths[3])\n'
    said = _kernel_of_ones_own({"squares.go": SQUARES}, uses, 0, ["print", "panic", "alloc"])
    return "\n".join(["```go", SQUARES.rstrip(), "```", "", "```", *said, "```"])


def _kernel_of_ones_own(sources: dict[str, str], uses: str, status: int, sets: list[str]) -> list[str]:
    """What `buildsys new`'s kernel says with `sources`, and `uses` before its end; it must exit with `status`."""
    from buildsys.front.new import new

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "mine")
        new(root)
        settings = root / "buildsys.toml"
        settings.write_text(f"sets = {json.dumps(sets)}\n" + settings.read_text())
        for name, text in sources.items():
            (root / "src" / name).write_text(text)
        main = root / "src" / "main.go"
        text, at = main.read_text(), "\tconsole.Drain() "
        assert text.count(at) == 1
        main.write_text(text.replace(at, uses + at))
        doit = Path(sys.executable).with_name("doit")
        subprocess.run([doit, "build"], cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = subprocess.run([doit, "run"], cwd=root, check=False, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    return [line.rstrip() for line in f"$ doit run\n{done.stdout}{done.stderr}".splitlines()]


def allocation_costs() -> str:
    """How many instructions an allocation of some sizes takes."""
    from buildsys.front.verify import case_of
    from buildsys.proof.allocations import costs

    sizes = (0, 8, 16, 32, 64, 128, 1024, 65536)
    found = costs(case_of(Steps(load(ROOT))), sizes)
    rows = ["| bytes | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    return "\n".join([*rows, "| instructions | " + " | ".join(f"{found[size]:,}" for size in sizes) + " |"])


LOG = """package main

type entry struct {
	older *entry
	value uint64
}

var (
	entries [4]entry
	newest  = ring(entries[:])
)

// ring links entries in a circle, and gives one of them.
func ring(entries []entry) *entry {
	for at := range entries {
		entries[at].older = &entries[(at+1)%len(entries)]
	}
	return &entries[0]
}

//go:noinline
func log(value uint64) {
	newest = newest.older
	newest.value = value
}
"""


def crash() -> str:
    """A kernel of `buildsys new` that fails, and what is said of it."""
    said = _crashing(LOG, "log(7)", 2)
    return "\n".join(["```go", LOG.rstrip(), "```", "", "```", *said, "```"])


def crash_mended() -> str:
    """The same, mended."""
    source = LOG.replace("newest  = ring(entries[:])", "newest  *entry")
    said = _crashing(source, "newest = ring(entries[:])\n\tlog(7)", 0)
    return "\n".join(["```go", "\tnewest = ring(entries[:])", "\tlog(7)", "```", "", "```", *said, "```"])


DEEP = """    .global deep
deep:                           // so many frames of 256 bytes as x0 says
    .cfi_startproc
    stp     x29, x30, [sp, #-256]!
    .cfi_def_cfa_offset 256
    .cfi_offset x29, -256
    .cfi_offset x30, -248
    subs    x0, x0, #1
    b.eq    1f
    bl      deep
1:  ldp     x29, x30, [sp], #256
    ret
    .cfi_endproc
"""
DECLARED = """package main

import _ "unsafe"

//go:linkname deep deep
func deep(frames uintptr)
"""


def off_the_stack() -> str:
    """A kernel of `buildsys new` whose assembly needs more stack than there is, and what is said of it."""
    with _own_kernel(DECLARED, "deep(1000)", {"deep.s": DEEP}) as root:
        done = subprocess.run([_doit(), "run"], cwd=root, check=False, capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
    said = [line.rstrip() for line in f"$ doit run\n{done.stdout}{done.stderr}".splitlines()]
    first, last = (at for at, line in enumerate(said) if line.startswith(("crash: ", "  hint: ")))
    return "\n".join(["```asm", DEEP.rstrip(), "```", "", "```", said[0], "…", *said[first : last + 1], "…", "```"])


def crash_in_gdb() -> str:
    """The same, looked at with gdb."""
    shown = ("bt", "print 'main.newest'", "info registers pc sp")
    commands = [part for each in shown for part in (f"echo (gdb) {each}\\n", each)]
    inspecting = (
        "import sys; from pathlib import Path; from buildsys.machines.gdb import inspect; "
        "[folder] = Path('build/crash').iterdir(); "
        "sys.exit(inspect(folder / 'kernel.elf', folder / 'core', Path('src'), None, sys.argv[1:]))"
    )
    with _own_kernel(LOG, "log(7)") as root:
        subprocess.run([_doit(), "run"], cwd=root, check=False, capture_output=True)
        done = subprocess.run(
            [sys.executable, "-c", inspecting, *commands], cwd=root, check=True, capture_output=True, text=True
        )
        said = done.stdout.replace(f"{root}/", "")
        crashed = next((root / "build" / "crash").iterdir()).relative_to(root)
    lines = [line.rstrip() for line in said.splitlines() if not line.startswith(("warning", "[New"))]
    return "\n".join(["```", f"$ doit debug --crash {crashed}", *lines, "```"])


def debug_bare() -> str:
    """What our commands say in gdb, of a kernel of `buildsys new`, at its entry."""
    from buildsys.front.new import new

    shown = ("info barriers", "break-barrier main.go:34", "info pages main.KernelMain")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "mine")
        new(root)
        line = next(
            at for at, each in enumerate((root / "src/main.go").read_text().splitlines(), 1) if "= &words" in each
        )
        return _debugging(root, tuple(each.replace(":34", f":{line}") for each in shown))


def debug_program() -> str:
    """The same of a program: the goroutines that wait for something."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "mine")
        shutil.copytree(ROOT / "tests/kernels/debugged", root / "src")
        (root / "buildsys.toml").write_text('kind = "program"\npackage = "src"\n')
        said = _debugging(root, ("break main.look", "continue", "info goroutines"))
    wanted = ("[running]", "[chan receive]", "[sync.Mutex.Lock]", "[sleep]", "[force gc (idle)]")
    head, *blocks = re.split(
        r"(?m)(?=^[* ] goroutines? )", said.removesuffix("\n```").partition("(gdb) info goroutines\n")[2]
    )
    assert not head
    kept = [each.rstrip() for each in blocks if each.splitlines()[0].endswith(wanted)]
    return "\n".join(["```", "(gdb) info goroutines", *kept, "```"])


def _debugging(root: Path, shown: Sequence[str]) -> str:
    """What gdb says to some commands, where `doit debug` stops in the project in `root`."""
    commands = [part for each in shown for part in (f"echo (gdb) {each}\\n", each)]
    debugging = (
        "import sys; from buildsys.config.project import load; from buildsys.front.steps import Steps; "
        "from buildsys.machines.gdb import debug; steps = Steps(load()); project = steps.project; steps.make_ready(); "
        "[steps.records.perform(make()) for make in (steps.compile, steps.runtime, steps.link, steps.patch)]; "
        "debug(steps.image, project.board, project.begins, project.package, steps.go.root, sys.argv[1:])"
    )
    # Behind the last of them the guest goes on.
    command = [sys.executable, "-c", debugging, *commands, "echo (end)\\n"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    said = done.stdout[done.stdout.index("(gdb) ") :].partition("(end)\n")[0].replace(f"{root}/", "")
    return "\n".join(["```", *(line.rstrip() for line in said.splitlines()), "```"])


def _crashing(source: str, uses: str, status: int) -> list[str]:
    """What `doit run` says of a kernel of `buildsys new` with this source file, that does what `uses` says."""
    with _own_kernel(source, uses) as root:
        done = subprocess.run([_doit(), "run"], cwd=root, check=False, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    return [line.rstrip() for line in f"$ doit run\n{done.stdout}{done.stderr}".splitlines()]


@contextlib.contextmanager
def _own_kernel(source: str, uses: str, assembly: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A built kernel of `buildsys new` with one more source file, `assembly`, and more to do at its end."""
    from buildsys.front.new import new

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "mine")
        new(root)
        (root / "src" / "log.go").write_text(source)
        for name, text in (assembly or {}).items():
            (root / name).write_text(text)
        if assembly:
            settings = (root / "buildsys.toml").read_text()
            (root / "buildsys.toml").write_text(f"assembly = {[*assembly]}\n{settings}")
        main = root / "src" / "main.go"
        text, at = main.read_text(), "\tconsole.Drain() "
        assert text.count(at) == 1
        main.write_text(text.replace(at, f"\t{uses}\n{at}"))
        subprocess.run([_doit(), "build"], cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield root


def _doit() -> Path:
    return Path(sys.executable).with_name("doit")


def hint_table() -> str:
    """The causes of crashes that are known."""
    from buildsys.crash.hints import hints

    rows = ["| cause | what to do |", "|---|---|"]
    told = {each.name: each.do.replace("{larger}", LARGER) for each in hints()}
    rows += [f"| {name} | {do} |" for name, do in told.items() if "{" not in do]
    rows += [f"| {name} | what its service needs instead |" for name, do in told.items() if "{" in do]
    return "\n".join(rows)


PARTS: dict[str, Callable[[], str]] = {
    "go-test": go_test,
    "matrix": matrix,
    "board maps": board_maps,
    "overlap": overlap,
    "barrier table": barrier_table,
    "claims": claims,
    "cache_story": cache_story,
    "a panic": panicking,
    "a kernel that allocates": allocating,
    "what an allocation costs": allocation_costs,
    "a crash": crash,
    "a crash mended": crash_mended,
    "a crash in gdb": crash_in_gdb,
    "a stack that is too small": off_the_stack,
    "debugging a kernel": debug_bare,
    "debugging a program": debug_program,
    "hints": hint_table,
    "barriers counted": lambda: after_a_run('barrier = "count"'),
    "barriers recorded": lambda: after_a_run('barrier = "record"', shown=12),
    "barriers given": lambda: after_a_run(
        'barrier = "user"\nbarrier-function = "main.onBarrier"\nbarrier-ring = 512', batches()
    ),
    "size changed": size_changed,
    "doctor": doctor,
    "archive contents": archive_contents,
    "barrier costs": barrier_costs,
    "println reach": println_reach,
    "println way": println_way,
    "services": services,
    "system calls": programs.system_calls,
    "a program": programs.source,
    "a program run": lambda: programs.hello("run-qemu"),
    "a program proved": lambda: programs.hello("verify", "1[456] "),
    "claims of programs": program_claims,
}


def main() -> int:
    """Write every document, or with --check say which are not true."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text("utf-8")
        new = filled(text)
        if without_times(new) != without_times(text):
            stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(new, "utf-8")
    for name, draw in PICTURES.items():
        path, drawn = ROOT / name, draw()
        if not path.exists() or path.read_text("utf-8") != drawn:
            stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(drawn, "utf-8")
    if "--check" in sys.argv and stale:
        print(f"not what the tools print today: {', '.join(stale)}; `doit docs` writes them anew", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
