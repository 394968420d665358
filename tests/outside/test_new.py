"""`buildsys new DIR`: a kernel that builds, boots and is proved as it is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from buildsys.go.toolchain import find
from tests.conftest import ROOT
from tests.outside.conftest import Outside, Venv


def test_it_builds_boots_and_verifies_at_once(project: Outside) -> None:
    assert "build/kernel.elf" in project.doit("build").succeeded().out
    assert "Hello from Go" in project.doit("run").succeeded().out
    assert "Hello from Go" in project.doit("run-qemu").succeeded().out
    assert "13 of 13 claims hold" in project.doit("verify").succeeded().out
    assert "everything is up to date" in project.doit("build").succeeded().out


def test_every_line_of_its_own_files_is_explained(project: Outside) -> None:
    """A comment on the line, or above the lines it belongs to."""
    mark = {"buildsys.toml": "#", "dodo.py": '["#]', ".gitignore": "#", "src/go.mod": "//"}
    for name, comment in mark.items():
        explained = False
        for line in project.path(name).read_text().splitlines():
            explained = bool(line) and (explained or bool(re.search(comment, line)))
            assert explained or not line, f"{name}: {line}"
    source = project.path("src/main.go").read_text()
    for line in source.splitlines():
        if re.match(r"\t(\w|\")", line) and not line.startswith(
            ('\tconsole.Puts("', "\tconsole.PutDecimal", "\treturn")
        ):
            assert "//" in line or line == "\tKernelMain(nil)", line


def test_its_go_is_formatted_and_vetted(project: Outside) -> None:
    go = find("wheel", "the tests")
    said = subprocess.run(
        [go.root / "bin" / "gofmt", "-l", project.path("src")], capture_output=True, text=True, check=True
    )
    assert said.stdout == ""
    environment = {**go.environment(), "GOOS": "linux", "GOARCH": "arm64"}
    subprocess.run([go.command, "vet", "./..."], cwd=project.path("src"), env=environment, check=True)


def test_the_go_packages_are_the_reference_kernels(project: Outside) -> None:
    for package in ("board", "memory", "semihosting", "uart"):
        for file in project.path(f"src/{package}").iterdir():
            assert file.read_bytes() == (ROOT / "src" / package / file.name).read_bytes()


def uncommented(path: Path) -> object:
    """The JSON in a file with comments of its own lines, as VS Code reads it."""
    return json.loads(re.sub(r"(?m)^\s*//.*$", "", path.read_text()))


def test_vs_code_gets_tasks_that_are_there_and_a_configuration_that_waits_for_one(project: Outside) -> None:
    tasks = uncommented(project.path(".vscode/tasks.json"))
    launch = uncommented(project.path(".vscode/launch.json"))
    assert isinstance(tasks, dict)
    assert isinstance(launch, dict)
    labels = {task["label"]: task["command"].split() for task in tasks["tasks"]}
    listed = {line.split()[0] for line in project.doit("list").succeeded().out.splitlines()}
    assert all(command[0] == "doit" and command[1] in listed for command in labels.values())
    (configuration,) = launch["configurations"]
    waiting = labels[configuration["preLaunchTask"]]
    assert configuration["miDebuggerServerAddress"] == f"localhost:{waiting[waiting.index('--server') + 1]}"
    assert configuration["program"] == "${workspaceFolder}/build/kernel.elf"


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(venv: Venv, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kept").write_text("x")
    venv.run(tmp_path, "buildsys", "new", "mine").refused("mine is not empty", "hint: ")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept"]
    (tmp_path / "file").write_text("x")
    venv.run(tmp_path, "buildsys", "new", "file").refused("file is a file")


def test_an_empty_folder_and_one_in_folders_that_are_not_there_are_filled(venv: Venv, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    venv.run(tmp_path, "buildsys", "new", "mine").succeeded()
    venv.run(tmp_path, "buildsys", "new", "a/b/c").succeeded()
    names = [{str(path.relative_to(at)) for path in at.rglob("*")} for at in (tmp_path / "mine", tmp_path / "a/b/c")]
    assert names[0] == names[1]


@pytest.mark.parametrize("arguments", [[], ["nwe", "mine"], ["new"]])
def test_a_command_line_that_says_nothing_is_answered_with_where_to_look(
    venv: Venv, tmp_path: Path, arguments: list[str]
) -> None:
    done = venv.run(tmp_path, "buildsys", *arguments)
    assert done.status == 2
    assert "did you mean `new`?" in done.err or "--help` shows" in done.err
