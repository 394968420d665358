from __future__ import annotations

import pytest

from buildsys.go.packages import is_own, package_of
from buildsys.proof.case import Case


@pytest.mark.parametrize(
    ("symbol", "package"),
    [
        ("main.main", "main"),
        ("main.(*counter).add", "main"),
        ("main.checkList.func1", "main"),
        ("main.put[go.shape.*kernel/heap.Segment]", "main"),
        ("kernel/heap.(*Segment).Free", "kernel/heap"),
        ("kernel/memory.Load64.abi0", "kernel/memory"),
        ("github.com/some/one.Function", "github.com/some/one"),
        ("gopkg.in/yaml%2ev3.(*node).kind", "gopkg.in/yaml.v3"),
        ("main.(*struct { kernel/heap.lock }).Lock", "main"),
        ("internal/runtime/maps.(*Map).grow", "internal/runtime/maps"),
        ("type:.eq.main.peak", ""),
        ("go:itab.*main.peak,main.instrument", ""),
        ("_start", ""),
    ],
)
def test_a_symbol_begins_with_its_package(symbol: str, package: str) -> None:
    assert package_of(symbol) == package


@pytest.mark.parametrize("package", ["main", "kernel", "kernel/heap", "example.org/x", "github.com/some/one/deep"])
def test_the_kernels_packages_are_its_own(package: str) -> None:
    assert is_own(package, {"kernel"})


@pytest.mark.parametrize(
    "package", ["", "runtime", "internal/cpu", "kernels", "net/http", "vendor/golang.org/x/net/dns/dnsmessage"]
)
def test_the_standard_library_is_not(package: str) -> None:
    assert not is_own(package, {"kernel"})


def test_an_image_names_its_modules(case: Case) -> None:
    assert case.modules == {"kernel"}
