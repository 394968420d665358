"""What a user sees, whole: plain lines as a file gets them, and the screen of a terminal when all is over.

The texts are in tests/front/snapshots. When one changes on purpose, `SNAPSHOTS=write pytest` of this file
writes them anew, and the difference is reviewed like code. Numbers are shown as 0, and runs of spaces as two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.front.conftest import Checkout, Copies
from tests.front.test_reporter import Screen

FOLDER = Path(__file__).with_name("snapshots")
COLUMNS = 100

Change = Callable[[Checkout], object]


def nothing(checkout: Checkout) -> None:
    """It is as it was built."""


def unbuilt(checkout: Checkout) -> None:
    import shutil

    shutil.rmtree(checkout.path("build"))


def undeclared(checkout: Checkout) -> None:
    checkout.append("src/main.go", "\nfunc broken() int { return nothing }\n")


STORIES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "build": (unbuilt, ("build",)),
    "build again": (nothing, ("build",)),
    "build that fails": (undeclared, ("build",)),
    "size": (nothing, ("size", "--by", "region", "--by", "section")),
    "size of packages": (nothing, ("size", "--by", "package", "kernel/*")),
    "size compared": (nothing, ("size", "--compare", "last")),
    "doctor": (nothing, ("doctor",)),
    "help": (nothing, ("help",)),
    "help of a task": (nothing, ("help", "verify")),
    "list": (nothing, ("list",)),
    "help-topics": (nothing, ("help-topics", "grew")),
}


def told(text: str) -> str:
    """`text` without what differs from build to build and from machine to machine."""
    text = re.sub(r"\b0x[0-9a-f]+", "0x0", text)
    text = re.sub(r"(?<![A-Za-z])\d+(?:,\d+)*(?:\.\d+)*(?!x)", "0", text)
    text = re.sub(r"(?<=\S) {2,}", "  ", text)
    text = re.sub(r"(?m)^ +(?=[-+0]|code  rodata|change  before|bytes  )", "", text)  # aligned to the right
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"


def compared(name: str, text: str) -> None:
    """Fail unless the snapshot `name` is `text`; with SNAPSHOTS=write it is from now on."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.is_file(), f"{path} is missing: SNAPSHOTS=write makes it"
    assert text == path.read_text("utf-8")


@pytest.fixture
def prepared(reference: Checkout, copies: Copies) -> Callable[[str], Checkout]:
    """A copy of the project as a story wants it."""

    def prepare(story: str) -> Checkout:
        change, _ = STORIES[story]
        if change is nothing:
            return reference
        checkout = copies(reference)
        change(checkout)
        return checkout

    return prepare


@pytest.mark.parametrize("story", STORIES)
def test_plain_lines(story: str, prepared: Callable[[str], Checkout]) -> None:
    _, command = STORIES[story]
    done = prepared(story).doit(*command)
    assert "\x1b" not in done.out + done.err
    parts = [f"$ doit {' '.join(command)}\n{done.out}"]
    parts += [f"--- stderr\n{done.err}"] if done.err else []
    compared(f"{story}, plain", f"{told(''.join(parts))}--- status {done.status}\n")


@pytest.mark.parametrize("story", STORIES)
def test_the_screen_of_a_terminal(story: str, prepared: Callable[[str], Checkout]) -> None:
    _, command = STORIES[story]
    screen = Screen(prepared(story), command, COLUMNS, "", {})
    screen.end()
    compared(f"{story}, terminal", told(screen.text))


@pytest.mark.parametrize("story", ["build", "doctor", "size"])
def test_without_colour_the_words_are_the_same(story: str, prepared: Callable[[str], Checkout]) -> None:
    _, command = STORIES[story]
    screen = Screen(prepared(story), command, COLUMNS, "", {"NO_COLOR": "1"})
    screen.end()
    assert not re.search(rb"\x1b\[[0-9;]*[1-9][0-9;]*m", screen.raw)
    compared(f"{story}, terminal", told(screen.text))


def test_each_snapshot_is_of_a_story() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {
        f"{story}, {form}" for story in STORIES for form in ("plain", "terminal")
    }
