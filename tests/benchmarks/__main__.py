"""`doit bench`: everything measured, a row each. Tells what is over its bound; fails for nothing but an error."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks import cache, callsites, loop, programs, proof, reach, watch

SUITES = (loop, cache, watch, callsites, proof, reach, programs)


def main() -> None:
    for suite in SUITES:
        with tempfile.TemporaryDirectory(prefix="buildsys-bench-") as folder:
            for row in suite.rows(Path(folder)):
                print(row.text(), flush=True)


if __name__ == "__main__":
    main()
