"""What is typed wrong: one sentence, a blank line, a hint; on stderr, and nothing on stdout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.front.conftest import Checkout

STYLE = re.compile(r"error: [^\n]+\n\nhint: [^\n]+\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("verfy", "did you mean `verify`?"),
        ("list nosuch", "'nosuch'"),
        ("info nosuch", "'nosuch'"),
        ("info", "one"),
        ("forget nosuch", "'nosuch'"),
        ("clean verfy", "did you mean `verify`?"),
        ("ignore nosuch", "'nosuch'"),
        ("list --satus", "did you mean `--status`?"),
        ("verify --clam x", "did you mean `--claim`?"),
        ("-f nosuch.py list", "nosuch.py"),
        ("verify --claim nosuch", "there is no claim"),
        ("size --compare nosuch", "no revision"),
        ("help-topics nosuch", "nosuch"),
        ("why nosuch", "there is no step"),
        ("help verfy", "did you mean `verify`?"),
        ("size nosuch", "no package or symbol of the image is 'nosuch'"),
        ("archive nosuch/x.zip", "there is no folder nosuch"),
        ("verify boot-code", "`doit verify --claim boot-code`"),
    ],
)
def test_a_mistake_is_told_in_one_style(reference: Checkout, command: str, words: str) -> None:
    done = reference.doit(*command.split())
    assert done.status != 0
    assert STYLE.fullmatch(done.err), done.err
    assert words in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("command", "words"), [("", "COMMAND"), ("new", "DIR"), ("docter", "did you mean `doctor`?"), ("new a b", "b")]
)
def test_so_is_one_of_the_command_buildsys(command: str, words: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("buildsys")
    done = subprocess.run([program, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert STYLE.fullmatch(done.stderr), done.stderr
    assert words in done.stderr
    assert done.stdout == ""
