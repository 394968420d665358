"""`buildsys patch`: functions of an image somebody else built, redirected; what was done, in words or as JSON."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from buildsys.errors import UserError

if TYPE_CHECKING:
    from buildsys.patching import Redirected, Report, Site

SHOWN = 10  # sites of a redirect, and other ways to a function, that are listed in words

HELP = "redirect functions of an AArch64 image, whoever built it"
DESCRIPTION = """\
Writes to OUT.elf the image IN.elf with calls of each OLD function going to NEW, a function of the same image.
IN.elf is what a linker wrote for 64-bit little-endian Arm, with its symbols; it may be OUT.elf too. All of it
is done, or OUT.elf is left as it was, and one message says why."""
EPILOG = """\
OLD and NEW are names as `nm` shows them, or addresses (0x1234); the same name twice is the local function of
that name and the global one. A NEW function that is to call the original calls original.OLD, a function of two
instructions or more in the same image, which is filled in.

examples:
  buildsys patch firmware.elf patched.elf --redirect malloc=pool_alloc --redirect free=pool_free
  buildsys patch kernel.elf kernel.elf --redirect panic=my_panic --mode both
  buildsys patch firmware.elf patched.elf --redirect memcpy=0x40081230 --dry-run --json"""
MODES = """calls: every branch to OLD goes to NEW, OLD stays as it is (the default); entry: the first instruction of
OLD becomes a branch to NEW, which catches pointers too; both"""
# What each kind of way is called where nothing was done about it.
KINDS = {
    "conditional": "a conditional branch",
    "formed": "its address is formed",
    "pointer": "a pointer in data",
    "literal": "a pointer among code",
    "relocation": "a pointer the loader makes",
    "import": "a slot of the procedure linkage table",
    "data": "data among code that looks like a call, and was left",
}


def add(parser: argparse.ArgumentParser) -> None:
    """What the command line may say."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("image", metavar="IN.elf", type=Path, help="the image to read")
    parser.add_argument("output", metavar="OUT.elf", type=Path, help="where to write the patched one")
    parser.add_argument(
        "--redirect", metavar="OLD=NEW", action="append", required=True, dest="redirects", help="may be given again"
    )
    parser.add_argument("--mode", choices=("calls", "entry", "both"), default="calls", help=MODES)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument("--json", action="store_true", help="say it as JSON, every site with its two words")


def perform(chosen: argparse.Namespace) -> int:
    """Patch, write, and tell. Raises UserError."""
    from buildsys.patching import parse, redirect

    report = redirect(chosen.image, [parse(each) for each in chosen.redirects], chosen.mode)
    if not chosen.dry_run:
        _write(chosen.image, chosen.output, report.contents)
    written = None if chosen.dry_run else str(chosen.output)
    if chosen.json:
        print(json.dumps({**report.as_json(), "written": written}, indent=1), flush=True)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
        print("\n".join(_told(report, written)), flush=True)
    return 0


def _write(image: Path, output: Path, contents: bytes) -> None:
    """Write the file `output` leads to, at once, with the permissions of `image`."""
    from buildsys.files import revising

    try:
        target = output.resolve()
        if target.exists() and not target.is_file():
            raise UserError(f"{output}: is not a regular file", "name a file to write")
        with revising(target, image.stat().st_mode & 0o777, contents):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = error.strerror if isinstance(error, OSError) else "links to itself"
        raise UserError(f"{output}: cannot be written: {reason}") from error


def _told(report: Report, written: str | None) -> Iterator[str]:
    for each in report.redirects:
        yield from _about(report, each)
    if report.islands:
        yield f"{_many(len(report.islands), 'veneer')} added in unused bytes: {_addresses(report.islands)}"
    if any(not each.mode.at_entry for each in report.redirects):
        yield "copies the compiler put into callers (inlining) cannot be seen"
    remark = "" if report.changed else " (it was patched already: nothing changed)"
    yield f"{written} written{remark}" if written else f"dry run: nothing written{remark}"


def _about(report: Report, each: Redirected) -> Iterator[str]:
    done = []
    if each.mode.at_calls:
        by_veneer = sum(site.veneer != 0 for site in each.sites)
        done.append(_many(len(each.sites), "call") + (f" ({by_veneer} by a veneer)" if by_veneer else ""))
    if each.mode.at_entry:
        done.append("its entry" if each.entry else "its entry, before this")
    already = f"; {_many(each.already, 'branch', 'branches')} went there before" if each.already else ""
    yield f"{each.old} → {each.new}: {' and '.join(done)} redirected{already}"
    for site in each.sites[:SHOWN]:
        yield f"  {site.address:#x} in {site.function or 'no function'}{_by(site)}"
    if len(each.sites) > SHOWN:
        yield f"  and {len(each.sites) - SHOWN} more (--json lists all)"
    if each.entry:
        yield f"  {each.entry.address:#x}, its first instruction{_by(each.entry)}"
    if each.original:
        yield f"  the original is called at {each.original:#x}"
    if each.aliases:
        yield f"  the same function, redirected with it: {', '.join(each.aliases)}"
    if each.not_reached:
        yield f"  still lead to {each.old} (--mode entry catches what is not data):"
    for way in each.not_reached[:SHOWN]:
        place = report.places.get(way.address)
        yield f"    {way.address:#x}{f' in {place}' if place else ''}: {KINDS[way.kind]}"
    if len(each.not_reached) > SHOWN:
        yield f"    and {len(each.not_reached) - SHOWN} more (--json lists all)"


def _by(site: Site) -> str:
    if not site.veneer:
        return ""
    return f", by {'a veneer of ours' if site.ours else 'the linker’s veneer'} at {site.veneer:#x}"


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _addresses(places: tuple[int, ...]) -> str:
    return ", ".join(f"{at:#x}" for at in places[:SHOWN]) + (", …" if len(places) > SHOWN else "")
