"""What a redirect allows is named: one thing, or a list; in a directive with commas between."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.config.project import load
from buildsys.config.redirects import ALLOWED, Redirection, of_words
from buildsys.errors import UserError
from buildsys.stages import agreement


def redirect(root: Path, value: str) -> Redirection:
    (root / "src").mkdir(exist_ok=True)
    lines = ["[tool.buildsys]", 'package = "src"', "[tool.buildsys.redirect]"]
    lines.append(f'"runtime.x" = {{ to = "main.y", allow = {value} }}')
    (root / "pyproject.toml").write_text("\n".join([*lines, ""]))
    (found,) = load(root).redirects
    return found


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ('"signature"', ("signature",)),
        ('["signature", "inlined"]', ("signature", "inlined")),
        ('["inlined", "inlined"]', ("inlined",)),
        ('"recursion,inlined"', ("recursion", "inlined")),
        ("[]", ()),
    ],
)
def test_what_is_allowed_is_read_and_decides(tmp_path: Path, value: str, allowed: tuple[str, ...]) -> None:
    found = redirect(tmp_path, value)
    assert found.allow == allowed
    assert found.decides()["allow"] == sorted(allowed)
    assert sorted(Redirection.restored(found.stored()).allow) == sorted(allowed)


@pytest.mark.parametrize(("value", "shown"), [('"signatur"', "'signatur'"), ("3", "3"), ("[1]", "1"), ('""', "''")])
def test_what_cannot_be_allowed_is_refused(tmp_path: Path, value: str, shown: str) -> None:
    with pytest.raises(UserError) as caught:
        redirect(tmp_path, value)
    assert f":4: `tool.buildsys.redirect.runtime.x` has an `allow` of {shown}" in caught.value.message
    assert caught.value.hint


def test_a_directive_allows_with_commas() -> None:
    assert of_words(["runtime.x", "allow=signature,inlined"], "main.y", "a.go:3").allow == ("signature", "inlined")
    with pytest.raises(UserError, match=r"a\.go:3: the directive has an `allow` of 'signatures'"):
        of_words(["runtime.x", "allow=signatures"], "main.y", "a.go:3")


def test_each_thing_that_can_be_allowed_is_one_that_is_refused() -> None:
    assert set(ALLOWED) == {agreement.SIGNATURE, agreement.RECURSION, agreement.INLINED}
