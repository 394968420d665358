"""`//buildsys:redirect` in Go files: found above functions, named by their symbols, and never overlooked."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.errors import UserError
from buildsys.go import inputs as asking
from buildsys.go.directives import Directive, directives, prefix
from buildsys.go.options import GoOptions
from buildsys.go.toolchain import GoToolchain

from .conftest import MODULE, write


def found(folder: Path, text: str, package: str = "main") -> list[Directive]:
    file = folder / "a.go"
    file.write_text(text)
    return directives([(package, file)], lambda path: path.name)


def refused(folder: Path, text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        found(folder, text)
    return caught.value


DIRECTIVE = "//buildsys:redirect runtime.x mode=entry"


@pytest.mark.parametrize(
    ("below", "symbol"),
    [
        ("func f() {}", "main.f"),
        ("func f(\n\tx int,\n) {}", "main.f"),
        ("//\n// More words.\n//\n//go:noinline\nfunc f() {}", "main.f"),
        ("func (t T) m() {}", "main.T.m"),
        ("func (T) m() {}", "main.T.m"),
        ("func (t *T) m() {}", "main.(*T).m"),
        ("func (*T) m() {}", "main.(*T).m"),
        ("func ( _  * T ) m() {}", "main.(*T).m"),
        ("func größe() {}", "main.größe"),
        ("//go:linkname f other.name\nfunc f()", "other.name"),
        ("func f() {}\n//go:linkname f\n", "main.f"),
    ],
)
def test_the_function_below_is_named_by_its_symbol(tmp_path: Path, below: str, symbol: str) -> None:
    (one,) = found(tmp_path, f"package main\n\n// Words.\n//\n{DIRECTIVE}\n{below}\n")
    assert one == Directive(("runtime.x", "mode=entry"), symbol, tmp_path / "a.go", 5)


def test_several_stand_above_one_function_and_above_several(tmp_path: Path) -> None:
    above_f, above_g = f"{DIRECTIVE}\n//buildsys:redirect runtime.y", "//buildsys:redirect a.z"
    text = f"package main\n{above_f}\nfunc f() {{}}\n{above_g}\nfunc g() {{}}\n"
    assert [(each.words[0], each.symbol) for each in found(tmp_path, text)] == [
        ("runtime.x", "main.f"),
        ("runtime.y", "main.f"),
        ("a.z", "main.g"),
    ]


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    file = tmp_path / "a.go"
    file.write_bytes(f"package main\r\n{DIRECTIVE}\r\nfunc f() {{}}\r\n".encode())
    (one,) = directives([("main", file)], str)
    assert (one.words, one.symbol) == (("runtime.x", "mode=entry"), "main.f")


@pytest.mark.parametrize(
    "text",
    [
        f'var s = "{DIRECTIVE}"',
        f"var s = `\n{DIRECTIVE}\n`",
        "var r, s = '\"', `\n" + DIRECTIVE + "\n`",
        f"// Write {DIRECTIVE} above a function.",
        f"/* The text\n{DIRECTIVE}\n*/",
        "// buildsys: the tool this is built with",
        "// buildsys redirects this function.",
    ],
)
def test_what_only_speaks_of_directives_is_none(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, f"package main\n\n{text}\n\nfunc f() {{}}\n") == []


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("// buildsys:redirect runtime.x", "is no directive"),
        ("//\tbuildsys:redirect runtime.x", "is no directive"),
        ("//Buildsys:redirect runtime.x", "is no directive"),
        ("//build-sys:redirect runtime.x", "is no directive"),
        ("// buildsys: redirect runtime.x", "is no directive"),
        ("/*buildsys:redirect runtime.x*/", "is no directive"),
        ("//buildsys:redirct runtime.x", "there is no directive buildsys:redirct"),
        ("//buildsys:noinline", "there is no directive buildsys:noinline"),
    ],
)
def test_one_that_is_misspelt_is_an_error(tmp_path: Path, comment: str, message: str) -> None:
    error = refused(tmp_path, f"package main\n\n{comment}\nfunc f() {{}}\n")
    assert error.message.startswith("a.go:3: ")
    assert message in error.message
    assert "//buildsys:redirect NAME" in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{DIRECTIVE}\n\nfunc f() {{}}", "is not above a function"),
        (f"{DIRECTIVE}\nvar f = func() {{}}", "is not above a function"),
        (f"{DIRECTIVE}\ntype T struct{{}}", "is not above a function"),
        (f"func f() {{\n\t{DIRECTIVE}\n\tf()\n}}", "is not above a function"),
        (f"{DIRECTIVE}", "is not above a function"),
        (f"var x int {DIRECTIVE}\nfunc f() {{}}", "stands behind code"),
        (f"{DIRECTIVE}\nfunc f[T any]() {{}}", "is above f, which is generic"),
        (f"{DIRECTIVE}\nfunc (t *T[K]) m() {{}}", "is above a method of a generic type"),
        (f"{DIRECTIVE}\nfunc init() {{}}", "is above func init"),
        (f"{DIRECTIVE}\nfunc _() {{}}", "is above func _"),
    ],
)
def test_one_that_is_not_above_a_function_with_one_name_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    error = refused(tmp_path, f"package main\n{text}\n")
    assert error.message.startswith("a.go:")
    assert message in error.message


@pytest.mark.parametrize(
    ("path", "name", "symbols"),
    [
        ("kernel", "main", "main"),
        ("kernel/heap", "heap", "kernel/heap"),
        ("example.com/a.b/c", "c", "example.com/a.b/c"),
        ("gopkg.in/yaml.v3", "yaml", "gopkg.in/yaml%2ev3"),
        ("example.com/ü%", "u", "example.com/%c3%bc%25"),
    ],
)
def test_symbols_begin_with_the_path_as_go_escapes_it(path: str, name: str, symbols: str) -> None:
    assert prefix(path, name) == symbols


TREE = {
    "src/go.mod": MODULE
    + "require (\n\texample.org/lib v0.0.0\n\texample.org/v.x v0.0.0\n)\n"
    + "replace example.org/lib => ../lib\nreplace example.org/v.x => ../v2\n",
    "src/main.go": 'package main\n\nimport (\n\t"example.org/lib"\n\tv "example.org/v.x"\n\t"kernel/sub"\n)\n\n'
    "func main() { lib.F(); sub.F(); v.F() }\n",
    "src/tagged.go": "//go:build extra\n\npackage main\n",
    "src/other_windows.go": "package main\n",
    "src/main_test.go": "package main\n",
    "src/sub/sub.go": "package sub\n\nfunc F() {}\n",
    "lib/go.mod": "module example.org/lib\n\ngo 1.21\n",
    "lib/lib.go": "package lib\n\nfunc F() {}\n",
    "v2/go.mod": "module example.org/v.x\n\ngo 1.21\n",
    "v2/v.go": "package v\n\nfunc F() {}\n",
}


def test_files_of_the_main_module_and_of_folders_that_replace_others_count_if_they_are_compiled(
    go: GoToolchain, kernel: Path
) -> None:
    write(Path(), TREE)
    own = {(symbols, file.name) for symbols, file in asking.inputs(go, kernel, GoOptions()).own}
    assert own == {
        ("main", "main.go"),
        ("kernel/sub", "sub.go"),
        ("example.org/lib", "lib.go"),
        ("example.org/v%2ex", "v.go"),
    }
    tagged = asking.inputs(go, kernel, GoOptions(tags=("extra",))).own
    assert {file.name for _, file in tagged} == {"main.go", "tagged.go", "sub.go", "lib.go", "v.go"}
