"""The documents: what they show is what the tools print, what they link to is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import DOCUMENTS, PART
from tests.conftest import ROOT, copy_project


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of everything that is checked in, so that nothing is built or written in the original."""
    folder = copy_project(tmp_path_factory.mktemp("checkout"))
    for name in ("docs", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy2(ROOT / "README.md", folder)
    return folder


@pytest.mark.slow
def test_what_the_documents_show_is_what_the_tools_print_today(checkout: Path) -> None:
    doit = Path(sys.executable).with_name("doit")
    subprocess.run([doit, "build"], cwd=checkout, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=checkout, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#\s]+\.(?:md|org)|https://[^)]+)\)", path.read_text("utf-8"))
    for link in links:
        assert link.startswith("https://") or (path.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_generated_part_is_empty(document: str) -> None:
    for part in PART.finditer((ROOT / document).read_text("utf-8")):
        assert part[3].strip(), part[2]


@pytest.mark.parametrize("document", ["README.md", "docs/your-kernel.md"])
def test_every_setting_is_named(document: str) -> None:
    """Each key the project reads stands in the document's table, and each key in the table is read."""
    modules = [
        ROOT / "buildsys" / "config" / name for name in ("project.py", "barrier.py", "expected.py", "program.py")
    ]
    source = "".join(module.read_text("utf-8") for module in modules)
    reading = r'(?:\btable\.(?:string|strings|values|number|choice|integer|table)\(|_files\(root, table, )"([\w-]+)"'
    read = set(re.findall(reading, source))
    shown = {
        key
        for line in (ROOT / document).read_text("utf-8").splitlines()
        if line.startswith("| `")
        for key in re.findall(r"`([\w-]+)`", line.split("|")[1])
    }
    assert read == shown
