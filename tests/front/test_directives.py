"""`//buildsys:redirect` in a user's sources: what is done again because of one, and what is said of a wrong one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .conftest import SETTLED, Checkout, Copies

BODY = """pointer = &number
number = work(1)
return number"""
DECLARED = """
//go:noinline
func work(x int32) int32 { return x }

// A comment.
//go:noinline
func other(x int32) int32 { return x - 1 }

var kept = other(0)
"""
ABOVE = "// A comment.\n"
DIRECTIVE = "//buildsys:redirect main.work\n"  # as many lines


@pytest.fixture(scope="module")
def kernel(reference: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A kernel that exits with what `work` gives, built; not to be changed."""
    import shutil

    folder = tmp_path_factory.mktemp("directed")
    shutil.copytree(reference.folder, folder / "project")
    made = Checkout(folder / "project", folder)
    made.kernel(BODY, DECLARED)
    made.replace("src/main.go", "\tKernelMain(nil)\n", "\tKernelMain(nil)\n\tother(0)\n")
    made.replace("src/main.go", "var kept = other(0)\n", "")
    made.doit("build").succeeded()
    time.sleep(SETTLED)
    made.doit("build").succeeded()
    return made


@pytest.fixture
def checkout(kernel: Checkout, copies: Copies) -> Checkout:
    return copies(kernel)


def redirects(checkout: Checkout) -> list[dict[str, Any]]:
    told = json.loads(checkout.path("build/patch.json").read_bytes())
    return [each for each in told["functions"] if each["kind"] == "redirect"]


def test_a_directive_in_the_place_of_a_comment_leads_to_a_new_patch_and_nothing_else(checkout: Checkout) -> None:
    """Not a byte of the object changes: what changed are the redirects."""
    assert checkout.doit("run").status == 1
    checkout.replace("src/main.go", ABOVE, DIRECTIVE)
    assert checkout.doit("build").succeeded().steps == ("compile", "patch")
    assert [(each["name"], each["to"]) for each in redirects(checkout)] == [("main.work", "main.other")]
    assert checkout.doit("run").status == 0
    assert "build/directives.json" in checkout.doit("why", "patch").succeeded().out
    assert checkout.doit("build").succeeded().steps == ()
    checkout.replace("src/main.go", DIRECTIVE, ABOVE)
    checkout.doit("build").succeeded()
    assert not redirects(checkout)
    assert checkout.doit("run").status == 1


def test_its_options_count(checkout: Checkout) -> None:
    checkout.replace("src/main.go", ABOVE, DIRECTIVE)
    checkout.doit("build").succeeded()
    checkout.replace("src/main.go", DIRECTIVE, DIRECTIVE.replace("\n", " mode=both\n"))
    assert checkout.doit("build").succeeded().steps == ("compile", "patch")
    assert [each["mode"] for each in redirects(checkout)] == ["both"]


def test_a_directive_in_a_file_that_is_not_compiled_counts_for_nothing(checkout: Checkout) -> None:
    text = f"//go:build elsewhere\n\npackage main\n\n{DIRECTIVE}func third(x int32) int32 {{ return x }}\n"
    checkout.path("src/elsewhere.go").write_text(text)
    checkout.doit("build").succeeded()
    assert not redirects(checkout)
    checkout.set('tags = ["elsewhere"]')
    checkout.doit("build").refused("src/elsewhere.go:5: ", "build/kernel.unpatched.elf has no function main.third")


def test_what_is_in_another_package_is_named_with_it(checkout: Checkout) -> None:
    checkout.path("src/uart/extra.go").write_text(
        f"package uart\n\n{DIRECTIVE}func (p *Port) Other(x int32) int32 {{ return x }}\n"
    )
    checkout.doit("build").succeeded()  # the kernel does not import it
    checkout.replace("src/main.go", 'import "kernel/board"\n', 'import (\n\t"kernel/board"\n\t_ "kernel/uart"\n)\n')
    checkout.doit("build").refused("src/uart/extra.go:3: ", "has no function kernel/uart.(*Port).Other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("//buildsys:redirct main.work", "there is no directive buildsys:redirct"),
        ("// buildsys:redirect main.work", "is no directive"),
        ("//buildsys:redirect main.work mode=entri", "did you mean `entry`?"),
        ("//buildsys:redirect main.wrok", "did you mean main.work?"),
        ("//buildsys:redirect main.work\n", "is not above a function"),
    ],
)
def test_a_wrong_one_is_one_message_with_its_line(checkout: Checkout, text: str, said: str) -> None:
    checkout.replace("src/main.go", ABOVE, f"{text}\n")
    line = checkout.path("src/main.go").read_text().partition("buildsys:")[0].count("\n") + 1
    checkout.doit("build").refused(f"src/main.go:{line}: ", said)


def test_the_configuration_may_say_the_same_and_nothing_else(checkout: Checkout) -> None:
    checkout.replace("src/main.go", ABOVE, DIRECTIVE)
    checkout.append("pyproject.toml", '\n[tool.buildsys.redirect]\n"main.work" = "main.other"\n')
    checkout.doit("build").succeeded()
    assert len(redirects(checkout)) == 1
    checkout.replace("pyproject.toml", '= "main.other"', '= { to = "main.other", mode = "entry" }')
    checkout.doit("build").refused(
        "src/main.go:",
        "main.work is redirected to main.other (mode calls), and to main.other (mode entry)",
        "pyproject.toml:",
    )


def test_verify_reads_the_directive_in_the_sources(checkout: Checkout) -> None:
    checkout.replace("src/main.go", ABOVE, DIRECTIVE)
    said = checkout.doit("verify", "--strict").succeeded().out
    assert "1 of the kernel's redirects" in said
