"""Ordinary Go programs on the bare machine: the language is all there, and errors are told as Go tells them."""

from __future__ import annotations

import pytest

from tests.programs.conftest import Boot, text_of

PARTS = (
    "collector", "deep", "enables", "goroutines", "libraries", "maps", "pipes", "preempted", "protected", "recovered",
    "shared", "threads", "times", "weakly",
)  # fmt: skip


def test_a_program_has_arguments_environment_and_both_outputs(on_qemu: Boot) -> None:
    outcome = on_qemu("arguments", "one", "two words", "ümlaut")
    text = text_of(outcome)
    assert '["one" "two words" "ümlaut"]\ngood day 1\n' in text
    assert "to standard error\n" in text
    assert outcome.exit_code == 0


def test_every_part_of_the_language_works_on_qemu(on_qemu: Boot) -> None:
    outcome = on_qemu(",".join(PARTS))
    assert text_of(outcome).splitlines() == [f"done {part}" for part in PARTS]
    assert outcome.exit_code == 0


def test_every_part_of_the_language_works_on_the_embedded_emulator(on_embedded: Boot) -> None:
    outcome = on_embedded(",".join(PARTS))
    assert text_of(outcome).splitlines() == [f"done {part}" for part in PARTS]
    assert outcome.exit_code == 0


def test_the_exit_status_is_the_programs(on_qemu: Boot, on_embedded: Boot) -> None:
    assert on_qemu("exit").exit_code == 7
    assert on_embedded("exit").exit_code == 7


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [
        ("nilmap", 2, "panic: assignment to entry in nil map\n\ngoroutine 1 [running]:\nmain.nilMap()"),
        ("deadlock", 2, "fatal error: all goroutines are asleep - deadlock!"),
        ("huge", 2, "runtime: out of memory: cannot allocate 274877906944-byte block"),
        ("exhausted", 2, "fatal error: runtime: out of memory"),
        ("overflow", 2, "runtime: goroutine stack exceeds 1048576-byte limit\n"),
        ("deepest", 2, "fatal error: runtime: out of memory\n"),
        ("stray", 2, "unexpected fault address 0x123456789000\nfatal error: fault\n"),
    ],
)
def test_an_error_is_told_as_go_tells_it(on_embedded: Boot, part: str, status: int, said: str) -> None:
    outcome = on_embedded(part)
    text = text_of(outcome)
    assert said in text
    assert f"done {part}" not in text
    assert outcome.exit_code == status


def test_a_system_call_nobody_serves_is_named_at_the_end(on_embedded: Boot) -> None:
    outcome = on_embedded("unknown")
    assert text_of(outcome) == "done unknown\nsupervisor: not served: inotify_init1 (26), 1 times\r\n"
    assert outcome.exit_code == 0


def test_a_program_under_the_collectors_own_checks_loses_nothing(on_qemu: Boot) -> None:
    checks = '[env]\nGOGC = "1"\nGODEBUG = "gccheckmark=1,clobberfree=1"\n'
    outcome = on_qemu("collector,maps,goroutines", env=checks)
    assert outcome.exit_code == 0, text_of(outcome)
    assert "done goroutines" in text_of(outcome)


@pytest.mark.campaign
@pytest.mark.parametrize("go", ["1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27"])
def test_every_release_of_go_runs_every_part(on_qemu: Boot, go: str) -> None:
    for _ in range(50):
        outcome = on_qemu(",".join(PARTS), more=f'go = "{go}"')
        assert outcome.exit_code == 0, text_of(outcome)
