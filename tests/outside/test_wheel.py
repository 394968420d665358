"""The wheel is all a user needs: everything comes with it, and nothing is taken from a checkout."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.conftest import ROOT
from tests.outside.conftest import Outside, Venv


def test_the_wheel_has_templates_linker_scripts_boards_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"buildsys/data/{path.relative_to(ROOT).as_posix()}"
        for folder in ("templates", "linker")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    expected |= {f"buildsys/boards/{path.name}" for path in (ROOT / "buildsys/boards").glob("*.toml")}
    expected |= {f"buildsys/starter/{path.name}" for path in (ROOT / "buildsys/starter").iterdir() if path.is_file()}
    assert expected <= names
    assert "buildsys/py.typed" in names
    assert not [name for name in names if name.startswith(("src/", "tests/", "templates/", "linker/"))]


def test_the_packages_in_the_wheel_are_those_of_the_reference_kernel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = [name for name in archive.namelist() if name.startswith("buildsys/data/src/")]
        assert shipped
        for name in shipped:
            assert archive.read(name) == (ROOT / "src" / name.removeprefix("buildsys/data/src/")).read_bytes()


def test_the_buildsys_in_use_is_the_wheels(venv: Venv, tmp_path: Path) -> None:
    said = venv.run(tmp_path, "python", "-c", "import buildsys; print(buildsys.__file__)").succeeded().out
    assert Path(said.strip()).is_relative_to(venv.folder)


def test_three_lines_of_dodo_give_every_task(project: Outside) -> None:
    lines = [line for line in project.path("dodo.py").read_text().splitlines() if line]
    assert len(lines) <= 3
    listed = {line.split()[0] for line in project.doit("list").succeeded().out.splitlines()}
    assert listed >= {
        "build", "cache-info", "cache-prune", "compile", "debug", "go-test", "link", "patch", "run-embedded",
        "run-qemu", "runtime", "verify", "watch", "why",
    }  # fmt: skip
    for task in listed:
        assert task in project.doit("info", task).out
    assert "would be done" in project.doit("why").out or project.doit("why").succeeded().out
    assert project.doit("cache-info").succeeded().out


def test_a_pyproject_serves_as_well(project: Outside) -> None:
    text = project.path("buildsys.toml").read_text()
    project.path("buildsys.toml").unlink()
    project.write("pyproject.toml", f'[project]\nname = "mine"\nversion = "1"\n\n[tool.buildsys]\n{text}')
    assert project.doit("run").succeeded().out.endswith("bytes\n")


def test_two_configurations_are_one_message(project: Outside) -> None:
    project.write("pyproject.toml", '# mine\n[tool.buildsys]\npackage = "src"\n')
    project.doit("build").refused("pyproject.toml:2: ", "buildsys.toml both describe this project", "keep one")


def test_a_pyproject_for_other_tools_does_not_matter(project: Outside) -> None:
    project.write("pyproject.toml", "[tool.ruff]\nline-length = 100\n")
    project.doit("build").succeeded()


def test_no_configuration_at_all_names_both_files(project: Outside) -> None:
    project.path("buildsys.toml").unlink()
    project.doit("build").refused("pyproject.toml", "buildsys.toml")
