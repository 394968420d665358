"""A build killed anywhere is never wrong afterwards, and never loses a stage that was finished.

Killed from outside, at every end of a stage and at any time; and from inside at its nth write, with or without the
contents of what was written (dying.py). A few of the writes here, all of them in the campaign.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildsys.cache.action import UP_TO_DATE
from tests.front.conftest import Checkout, wait_for
from tests.front.dying import STAGES, Place, finished, killed, without_power, writes
from tests.front.inprocess import build, clean_build
from tests.front.recording import EVERY, Recorded
from tests.front.test_incremental import edit
from tests.machines.conftest import needs

pytest_plugins = ["tests.front.cached"]

MOMENTS = 7  # of all, in the ordinary suite
SEEDS = 3  # losses of power at each write, in the campaign


def change(checkout: Checkout) -> None:
    """Have everything to do again."""
    edit("src/main.go", "Testing write barrier...", "Testing write barriers..")(checkout)
    edit("templates/boot.s.j2", "_start:\n", "_start:\n    nop\n")(checkout)


@pytest.fixture(scope="module")
def busy(original: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A built checkout with a warm store, and everything to do again; not to be changed."""
    folder = tmp_path_factory.mktemp("busy")
    shutil.copytree(original.folder, folder / "project")
    shutil.copytree(original.cache, folder / "cache")
    checkout = Recorded(folder / "project", folder, original.tools)
    change(checkout)
    return checkout


@pytest.fixture(scope="module")
def whole(busy: Recorded, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The image a clean build makes of it."""
    image = clean_build(busy.folder, tmp_path_factory.mktemp("whole") / "project")
    assert image != busy.image
    return image


@pytest.fixture
def victims(busy: Recorded, tmp_path: Path) -> Iterator[Callable[[], Recorded]]:
    """Makes copies of it, one at a time; at the end nothing started in one is left."""
    folder = tmp_path / "victim"

    def victim() -> Recorded:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copytree(busy.folder, folder / "project", symlinks=True)
        shutil.copytree(busy.cache, folder / "cache")
        return Recorded(folder / "project", folder, busy.tools)

    yield victim
    wait_for(lambda: not Checkout(folder, folder).left(), "the end of what was orphaned")
    shutil.rmtree(folder, ignore_errors=True)


def place(checkout: Recorded) -> Place:
    return Place(checkout.folder, checkout.cache, checkout.temporary, checkout.temporary / "aside.json")


def partial(checkout: Checkout) -> list[Path]:
    """Files that were being written."""
    return [path for path in checkout.path("build").rglob("*") if path.name.endswith((".partial", ".tmp"))]


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Lets builds in this process be those of a machine that was started again."""

    def started(number: object) -> None:
        for module in ("action", "prints"):
            monkeypatch.setattr(f"buildsys.cache.{module}.boot", lambda: f"start {number}")

    return started


def survives_a_kill(checkout: Recorded, whole: bytes, at: int) -> bool:
    """Whether a build in `checkout` was killed at write `at`; what comes after is right."""
    since = time.time()
    if not killed(place(checkout), at):
        return False
    wait_for(lambda: not checkout.left(), "the end of what was orphaned")
    kept = finished(checkout.folder, since)
    origins = build(checkout.folder, checkout.cache)
    assert checkout.image == whole, f"killed at write {at}"
    assert {stage for stage in kept if origins[stage] != UP_TO_DATE} == set(), f"killed at write {at}"
    if set(origins.values()) != {UP_TO_DATE}:
        assert partial(checkout) == [], f"killed at write {at}"
    assert set(build(checkout.folder, checkout.cache).values()) == {UP_TO_DATE}
    return True


def survives_a_loss_of_power(
    checkout: Recorded, whole: bytes, at: int, seed: int, reboot: Callable[[object], None]
) -> int:
    """How many files lost their contents as a build lost its power at write `at`; what comes after is right."""
    since = time.time()
    lost = without_power(place(checkout), at, seed)
    kept = finished(checkout.folder, since, tuple(lost))
    reboot(f"{at}.{seed}")
    origins = build(checkout.folder, checkout.cache)
    assert checkout.image == whole, f"power lost at write {at}, seed {seed}"
    assert {stage for stage in kept if origins[stage] != UP_TO_DATE} == set(), f"power lost at {at}, seed {seed}"
    shutil.rmtree(checkout.path("build"))
    build(checkout.folder, checkout.cache)
    assert checkout.image == whole, f"restored after power was lost at write {at}, seed {seed}"
    return len(lost)


def spread(total: int, count: int) -> list[int]:
    """So many numbers from 1 to `total`."""
    return [1 + number * (total - 1) // (count - 1) for number in range(count)]


def test_a_build_killed_at_a_write_loses_nothing_that_was_finished(
    victims: Callable[[], Recorded], whole: bytes
) -> None:
    total = writes(place(victims()))
    assert total > 50
    deaths = sum(survives_a_kill(victims(), whole, at) for at in spread(total, MOMENTS))
    assert deaths >= MOMENTS - 2  # of several threads the order is not always the same, nor the number


def test_a_loss_of_power_at_a_write_is_never_taken_for_a_build(
    victims: Callable[[], Recorded], whole: bytes, reboot: Callable[[object], None]
) -> None:
    total = writes(place(victims()))
    moments = spread(total, MOMENTS)
    lost = sum(survives_a_loss_of_power(victims(), whole, at, seed, reboot) for seed, at in enumerate(moments))
    assert lost > MOMENTS


def test_a_tool_that_takes_long_ends_with_who_started_it_even_by_a_kill(tmp_path: Path) -> None:
    """As Go is run: what it would write much later has no owner any more."""
    needs("setpriv", "apt-get install --no-install-recommends util-linux")
    word = str(tmp_path / "told")
    command = ["sh", "-c", 'echo $$ > "$0.part"; mv "$0.part" "$0"; exec sleep 1000', word]
    running = f"from buildsys import processes; processes.run({command!r}, dies_with_us=True)"
    process = subprocess.Popen([sys.executable, "-c", running])
    wait_for(Path(word).exists, "the tool")
    number = Path(word).read_text().strip()
    process.kill()
    process.wait()
    wait_for(lambda: not Path("/proc", number).exists(), "its end")


def test_what_a_killed_build_left_of_the_image_before_goes_with_the_next(
    whole: bytes, victims: Callable[[], Recorded]
) -> None:
    """Of all that is written this is the one thing that no record speaks of."""
    checkout = victims()
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = checkout.path(f"build/.before/kernel.elf.{dead.pid}.{dead.pid}.partial")
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(whole)
    build(checkout.folder, checkout.cache)
    assert checkout.image == whole
    assert partial(checkout) == []


@pytest.mark.campaign
def test_a_build_killed_at_every_write_loses_nothing_that_was_finished(
    victims: Callable[[], Recorded], whole: bytes
) -> None:
    total = writes(place(victims()))
    assert sum(survives_a_kill(victims(), whole, at) for at in range(1, total + 1)) > total - 10


@pytest.mark.campaign
def test_a_loss_of_power_at_every_write_is_never_taken_for_a_build(
    victims: Callable[[], Recorded], whole: bytes, reboot: Callable[[object], None]
) -> None:
    total = writes(place(victims()))
    for seed in range(SEEDS):
        for at in range(1, total + 1):
            survives_a_loss_of_power(victims(), whole, at, seed, reboot)


@pytest.mark.parametrize("name", ["go.o", "runtime.json", "kernel.unpatched.elf", "kernel.elf"])
def test_contents_lost_behind_unchanged_times_are_missed_after_a_restart(
    victims: Callable[[], Recorded], whole: bytes, name: str, reboot: Callable[[object], None]
) -> None:
    """A file can have the size and times that were recorded, and zeroes in it."""
    checkout = victims()
    reboot("one")
    build(checkout.folder, checkout.cache)
    path = checkout.path(f"build/{name}")
    path.write_bytes(bytes(path.stat().st_size))
    status = path.stat()
    stat = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, True]
    for record in checkout.path("build/.done").glob("*.json"):
        stored = json.loads(record.read_bytes())
        for group in ("inputs", "outputs"):
            if str(path) in stored.get(group, ()):
                stored[group][str(path)][0] = stat
        record.write_text(json.dumps(stored))
    assert set(build(checkout.folder, checkout.cache).values()) == {UP_TO_DATE}  # nothing tells
    reboot("two")
    assert set(build(checkout.folder, checkout.cache).values()) != {UP_TO_DATE}
    assert checkout.image == whole


# From outside.


def written_anew(checkout: Checkout, stage: str) -> Callable[[], bool]:
    """Whether the record of `stage` is another than now."""
    path = checkout.path(f"build/.done/{stage}.json")
    before = path.stat().st_ino, path.stat().st_mtime_ns

    def changed() -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_ino, status.st_mtime_ns) != before

    return changed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES)
def test_a_build_ended_after_a_stage_does_not_do_it_again(
    stage: str, number: signal.Signals, victims: Callable[[], Recorded], whole: bytes
) -> None:
    checkout = victims()
    recorded = written_anew(checkout, stage)
    process = checkout.start("build")
    wait_for(recorded, f"the record of {stage}")
    process.send_signal(number)
    process.communicate(timeout=20)
    checkout.ran()
    done = checkout.doit("build").succeeded()
    assert done.steps in [STAGES[at:] for at in range(STAGES.index(stage) + 1, len(STAGES) + 1)]
    assert not set(checkout.calls()) & {"go list", "go build"}
    assert checkout.image == whole
    assert not done.steps or partial(checkout) == []


def test_builds_killed_again_and_again_come_to_an_end(victims: Callable[[], Recorded], whole: bytes) -> None:
    """Each begins while what the last one started is still at work."""
    checkout, delay, kills = victims(), 0.05, 0
    ended = False
    while not ended:
        process = checkout.start("build")
        try:
            process.communicate(timeout=delay)
            ended = True
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        delay *= 1.3
    assert kills > 3
    assert process.returncode == 0
    assert checkout.image == whole
    wait_for(lambda: not checkout.left(), "the end of what was orphaned")
    assert checkout.doit("build").succeeded().steps == ()
    shutil.rmtree(checkout.path("build"))
    checkout.doit("build").succeeded()
    assert checkout.image == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["go build", "zig clang", "zig ld.lld"])
def test_an_interrupted_build_of_several_tasks_leaves_no_process(
    moment: str, number: signal.Signals, victims: Callable[[], Recorded], whole: bytes
) -> None:
    checkout = victims()
    process = checkout.start("-n", "4", "build")
    wait_for(lambda: checkout.runs(moment), moment)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert checkout.left() == []
    assert (process.returncode, err) in ((130, "interrupted\n"), (0, ""))
    assert partial(checkout) == []
    checkout.doit("-n", "4", "build").succeeded()
    assert checkout.image == whole
    assert checkout.ran() <= EVERY
