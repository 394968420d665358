"""Whatever is done to a checkout, and in whatever order: the next build makes the image that a clean build makes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.campaigns.sequences import STEPS, Images, Story
from tests.conftest import copy_project
from tests.front.conftest import Checkout, wait_for
from tests.front.dying import orphans
from tests.front.inprocess import build

LENGTH = 10
ORDINARY, CAMPAIGN = 7, 300
# A sequence: which step, and the seed of what it leaves to chance.
SEQUENCES = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1 << 32)), min_size=LENGTH // 2, max_size=LENGTH)


@pytest.fixture(scope="module")
def images() -> Images:
    """The images of clean builds so far, by the state of the sources."""
    return Images()


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a built project, with templates and a board file of its own, and a store; not to be changed."""
    folder = tmp_path_factory.mktemp("beginning")
    checkout = Checkout(copy_project(folder / "project"), folder)
    checkout.own_templates()
    checkout.own_board()
    build(checkout.folder, folder / "cache")
    return folder


@pytest.fixture(scope="module")
def start() -> Callable[[object], None]:
    """Lets builds in this process be those of a machine that was started again."""
    patch = pytest.MonkeyPatch()

    def started(number: object) -> None:
        for module in ("action", "prints"):
            patch.setattr(f"buildsys.cache.{module}.boot", lambda: f"start {number}")

    return started


def follow(
    sequence: list[tuple[Callable[[Story, random.Random], None], int]],
    beginning: Path,
    images: Images,
    start: Callable[[object], None],
) -> None:
    """Do what the sequence says, with a build after each step."""
    with TemporaryDirectory() as folder:
        shutil.copytree(beginning, folder, dirs_exist_ok=True, symlinks=True)
        story = Story(Path(folder), images, start)
        try:
            for step, seed in sequence:
                story.done.append(f"{step.__name__} {seed}")
                step(story, random.Random(seed))
                story.check()
        finally:
            wait_for(lambda: not orphans(story.place), "the end of what was orphaned")


def sequences(count: int, **how: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        limits = settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), **how)  # type: ignore[arg-type]  # its own keywords
        return limits(given(sequence=SEQUENCES)(test))

    return decorated


@sequences(ORDINARY, derandomize=True, database=None, phases=(Phase.generate,))
def test_after_some_sequences_of_events_an_image_is_that_of_a_clean_build(
    sequence: list[tuple[Callable[[Story, random.Random], None], int]],
    beginning: Path,
    images: Images,
    start: Callable[[object], None],
) -> None:
    follow(sequence, beginning, images, start)


@pytest.mark.campaign
@sequences(CAMPAIGN)
def test_after_hundreds_of_sequences_of_events_an_image_is_that_of_a_clean_build(
    sequence: list[tuple[Callable[[Story, random.Random], None], int]],
    beginning: Path,
    images: Images,
    start: Callable[[object], None],
) -> None:
    follow(sequence, beginning, images, start)
