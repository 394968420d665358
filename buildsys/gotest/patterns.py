"""Go's patterns for names of tests: what of one is about a test, and what about its parts."""

from __future__ import annotations


def first(pattern: str) -> str:
    """What of `pattern` chooses tests, not parts of tests: src/testing/match.go, splitRegexp."""
    return "|".join(parts(each)[0] for each in alternatives(pattern))


def alternatives(pattern: str) -> list[str]:
    """What the `|` outside of brackets separates."""
    return _split(pattern, "|")


def parts(pattern: str) -> list[str]:
    """What the `/` outside of brackets separates: of a test, of its parts, of theirs."""
    return _split(pattern, "/")


def _split(pattern: str, separator: str) -> list[str]:
    found, begin, at = [], 0, 0
    brackets = parentheses = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "[":
            brackets += 1
        elif letter == "]":
            brackets = max(brackets - 1, 0)  # an unmatched ] is legal
        elif letter == "(" and not brackets:
            parentheses += 1
        elif letter == ")" and not brackets:
            parentheses -= 1
        elif letter == "\\":
            at += 1
        elif letter == separator and not brackets and not parentheses:
            found.append(pattern[begin:at])
            begin = at + 1
        at += 1
    return [*found, pattern[begin:]]
