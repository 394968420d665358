"""gofmt and go vet over Go modules: `python -m tests.golint FOLDER...`. Prints what they find; fails if they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from buildsys.go import toolchain


def main(folders: list[str]) -> int:
    go = toolchain.find("wheel", "lint")
    modules = sorted(mod.parent for folder in folders for mod in Path(folder).rglob("go.mod"))
    formatted = subprocess.run(
        [go.root / "bin" / "gofmt", "-l", *modules], capture_output=True, text=True, check=True
    ).stdout
    sys.stdout.write("".join(f"{file}: not as gofmt has it\n" for file in formatted.split()))
    vetted = [
        subprocess.run([go.command, "vet", "./..."], cwd=module, env=go.environment(), check=False).returncode
        for module in modules
    ]
    return 1 if formatted or any(vetted) or not modules else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
