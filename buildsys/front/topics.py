"""`doit help-topics [WORD ...]`: from what is seen to the page that explains it, and a command that tells more."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildsys.errors import UserError
from buildsys.front.reporter import Failed

FILE = Path(__file__).with_name("topics.toml")


@dataclass(frozen=True)
class Topic:
    """One symptom: the `page` about it, a command to `try`, and what that will `say`."""

    name: str
    symptom: str
    page: str
    try_: str
    say: str


def topics() -> tuple[Topic, ...]:
    """All there are, in the order of the file."""
    stored = tomllib.loads(FILE.read_text("utf-8"))
    return tuple(Topic(name, each["symptom"], each["page"], each["try"], each["say"]) for name, each in stored.items())


def chosen(words: Sequence[str]) -> list[Topic]:
    """The topics named by `words` or in which all of them occur. Raises UserError if there are none."""
    every = topics()
    if len(words) == 1 and (named := [topic for topic in every if topic.name == words[0]]):
        return named
    found = [topic for topic in every if all(word.lower() in _text(topic) for word in words)]
    if not found:
        from buildsys.config.toml import nearest

        hint = nearest(words[0], [topic.name for topic in every])
        raise UserError(f"no topic has {' '.join(words)!r} in it", hint)
    return found


def help_topics(words: Sequence[str]) -> Failed | None:
    """Print the topics that `words` choose, in full; all of them, a line each, without words."""
    try:
        found = chosen(words)
    except UserError as error:
        return Failed(error)
    print("\n".join(_told(found, whole=bool(words))), flush=True)
    return None


def _told(found: Sequence[Topic], whole: bool) -> list[str]:
    if not whole:
        width = max(len(topic.name) for topic in found)
        return [
            *(f"{topic.name:{width}}  {topic.symptom}" for topic in found),
            "`doit help-topics WORD` tells what to do: a name from here, or a word of what you see",
        ]
    lines: list[str] = []
    for topic in found:
        lines += [
            "",
            f"{topic.name}: {topic.symptom}",
            f"  {topic.say}",
            f"  try   {topic.try_}",
            f"  read  {topic.page}",
        ]
    return lines[1:]


def _text(topic: Topic) -> str:
    return f"{topic.name} {topic.symptom} {topic.say} {topic.page}".lower()
