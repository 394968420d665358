"""With each line of Go: what Go code allocates serves it on bare metal as it does where Go has its own runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildsys.front.verify import case_of
from buildsys.machines import embedded, qemu
from buildsys.proof.claim import Result
from buildsys.proof.claims import CLAIMS
from tests.sets.allocating import built_of, copy_kernels, natively

# Debian's, every line buildsys can fetch, and the one it comes with.
RELEASES = ("system", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "wheel")
# Go 1.19 forms the flag's address where nothing reads it then: the claim cannot tell that nothing does.
UNTOLD = {"1.19": {"flag-readers"}}


@pytest.mark.campaign
@pytest.mark.parametrize("kernel", ["plain", "reports", "dirty", "own"])
@pytest.mark.parametrize("release", RELEASES)
def test_every_feature_has_the_value_it_has_natively(tmp_path: Path, release: str, kernel: str) -> None:
    root = copy_kernels(tmp_path / "kernels")
    steps = built_of(root, kernel, release)
    said = natively(root, steps.go)
    assert len(said.splitlines()) > 30
    for run in (embedded.run, qemu.run):
        outcome = run(steps.image, steps.project.board, 60)
        assert outcome.serial.decode().replace("\r\n", "\n") == said
        assert outcome.exit_code == 0
    case = case_of(steps)
    found = {claim.name: claim.check(case).result for claim in CLAIMS}
    line = ".".join(steps.go.release.split(".")[:2])
    assert {name for name, result in found.items() if result is Result.NOT_RUN} <= UNTOLD.get(line, set())
    assert Result.FAILED not in found.values()
