"""Versions held against what is wanted, as pip holds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pip._vendor.packaging.specifiers import SpecifierSet

from buildsys.doctor.check import meets, numbers

versions = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
clauses = st.tuples(st.sampled_from(["==", ">=", "<=", ">", "<"]), versions).map("".join)


@given(versions, st.lists(clauses, max_size=3).map(",".join))
def test_a_version_is_wanted_if_pip_says_so(version: str, wanted: str) -> None:
    assert meets(version, wanted) == SpecifierSet(wanted).contains(version)


def test_what_is_no_version_is_not_what_is_wanted() -> None:
    assert not meets("", ">=1")
    assert not meets("unknown", "")
    assert not meets("1.0", "~=1.0")
    assert numbers("7.2.22~deb12u1") == (7, 2, 22)
