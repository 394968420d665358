"""Topics: each leads to a page that is there and a command that can be typed."""

from __future__ import annotations

import pytest

from buildsys.errors import UserError
from buildsys.front.topics import Topic, chosen, topics
from docs.generate import DOCUMENTS
from tests.conftest import ROOT
from tests.front.conftest import Checkout


@pytest.mark.parametrize("topic", topics(), ids=lambda topic: topic.name)
def test_its_page_is_there(topic: Topic) -> None:
    assert topic.page in DOCUMENTS
    assert (ROOT / topic.page).is_file()


def test_its_command_is_a_task_with_these_options(reference: Checkout) -> None:
    from tests.front.test_completion import answer

    tasks = answer(reference, "doit ")
    for topic in topics():
        doit, task, *words = topic.try_.split()
        assert doit == "doit"
        assert task in tasks or task == "run"
        known = answer(reference, f"doit {'run-embedded' if task == 'run' else task} -")
        assert {word for word in words if word.startswith("-")} <= known.keys()


def test_a_word_of_what_one_sees_leads_to_it(reference: Checkout) -> None:
    done = reference.doit("help-topics", "gdb", "sources").succeeded()
    assert done.out.startswith("debugger: ")
    assert "  try   doit debug\n  read  docs/your-kernel.md\n" in done.out
    listed = reference.doit("help-topics").succeeded().out.splitlines()
    assert [line.split()[0] for line in listed[:-1]] == [topic.name for topic in topics()]


def test_what_no_topic_has_is_told_with_the_nearest(reference: Checkout) -> None:
    reference.doit("help-topics", "debuger").refused("debuger", "did you mean `debugger`?")
    with pytest.raises(UserError):
        chosen(["flash", "goroutine", "chromium"])
