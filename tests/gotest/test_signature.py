"""What was received of a run is believed if it is all of it, and of this run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buildsys.errors import UserError
from buildsys.gotest import boots
from buildsys.gotest.signature import UnsignedError, fnv, signed
from buildsys.machines.outcome import End, Outcome
from tests.gotest.conftest import MachineOf

IDENTITY = "0123456789abcdef"


@pytest.fixture(scope="module")
def real(machine: MachineOf) -> tuple[Outcome, str]:
    """What a machine sent, and the identity it had been given."""
    seen: list[tuple[Outcome, str]] = []
    booted = machine("./good")
    judged = boots.judged

    def noted(outcome: Outcome, identity: str, time_limit: float) -> boots.Boot:
        seen.append((outcome, identity))
        return judged(outcome, identity, time_limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boots, "judged", noted)
        assert not booted.boot(["-test.v=test2json"]).trouble
    return seen[0]


def test_the_supervisor_signs_with_status_and_checksum(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    status, written, remarks = signed(outcome.serial, identity)
    assert status == outcome.exit_code == 0
    assert written.endswith(b"\x16PASS\n")
    assert remarks == ""


@pytest.mark.parametrize("at", [0, 1, 100, -1])
@pytest.mark.parametrize("how", ["lost", "changed", "twice"])
def test_a_byte_lost_or_changed_or_sent_twice_is_noticed(real: tuple[Outcome, str], at: int, how: str) -> None:
    outcome, identity = real
    written = signed(outcome.serial, identity).written
    place = at % len(written)
    instead = {"lost": b"", "changed": bytes([written[place] ^ 1]), "twice": written[place : place + 1] * 2}[how]
    damaged = outcome.serial[:place] + instead + outcome.serial[place + 1 :]
    with pytest.raises(UnsignedError, match=r"lost or changed|more arrived"):
        signed(damaged, identity)
    assert boots.judged(replace(outcome, serial=damaged), identity, 1).trouble


def test_the_end_of_another_run_is_none(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    with pytest.raises(UnsignedError, match=f"another run, {identity}"):
        signed(outcome.serial, IDENTITY)


def test_without_its_end_nothing_is_believed(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    for length in range(len(outcome.serial) - 1, len(outcome.serial) - 90, -1):
        boot = boots.judged(replace(outcome, serial=outcome.serial[:length]), identity, 1)
        assert boot.trouble == "the end of the run did not arrive", length


def test_the_machines_status_and_the_programs_must_agree(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    boot = boots.judged(replace(outcome, exit_code=1), identity, 1)
    assert boot.trouble == "the machine exited with status 1, and the program's was 0"


def test_a_run_that_its_time_limit_ended_did_not_end_whatever_it_said(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    boot = boots.judged(replace(outcome, end=End.TIME_LIMIT, exit_code=None), identity, 1.5)
    assert boot.trouble == "the time limit of 1.5 s ended it"


def test_an_emulator_that_fails_is_no_verdict(real: tuple[Outcome, str]) -> None:
    outcome, identity = real
    with pytest.raises(UserError, match="the emulator failed: out of order"):
        boots.judged(replace(outcome, end=End.EMULATOR, detail="out of order"), identity, 1)


def test_the_checksum_is_fnv_1a() -> None:
    """Values of draft-eastlake-fnv, appendix C."""
    assert fnv(b"") == 0xCBF29CE484222325
    assert fnv(b"a") == 0xAF63DC4C8601EC8C
    assert fnv(b"foobar") == 0x85944171F73967E8
