"""A program reads standard input from the serial port, and its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT
from tests.programs.conftest import Boot, built, text_of

TEXT = b"one\n\x01x two\n" + b"x" * 40 + b"\n" * 5_000  # Ctrl-A is a byte like any other


def test_every_byte_of_standard_input_arrives_and_its_end(on_each: Boot) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(TEXT)
        file.seek(0)
        outcome = on_each("input", given=file.fileno())
    assert text_of(outcome) == f"1: one\n2: \x01x two\n3: {'x' * 40}\n5002 lines\ndone input\n"
    assert outcome.exit_code == 0


def test_a_program_waits_for_input_that_comes_late(on_each: Boot) -> None:
    reading, writing = os.pipe()
    later = subprocess.Popen([sys.executable, "-c", "print('late', flush=True)"], stdout=writing)
    os.close(writing)
    try:
        assert text_of(on_each("input", given=reading)) == "1: late\n1 lines\ndone input\n"
    finally:
        os.close(reading)
        later.wait()


def test_doit_run_gives_a_program_its_own_standard_input(program: Path) -> None:
    built(program, "input")
    shutil.copy(ROOT / "buildsys/starter/dodo.py", program)
    for task in ("run", "run-qemu"):
        command = [sys.executable, "-m", "doit", task]
        done = subprocess.run(command, cwd=program, input=b"a line\n", capture_output=True, check=False,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert b"1: a line\n1 lines\ndone input\n" in done.stdout, done
        assert done.returncode == 0
