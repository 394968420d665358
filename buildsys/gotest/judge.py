"""The verdict on one package: boots until each of its tests ended, or is known to have ended its boot.

A package passes only if every boot came to its end as `boots` has it, with status 0 and the testing
package's last word, and every test that the program itself lists ended. After a boot that did not, the
tests it left are run in another; one that takes a boot with it is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from buildsys.errors import UserError
from buildsys.gotest.boots import Boot
from buildsys.gotest.output import FAIL, PASS, SKIP, Said, Test, top
from buildsys.gotest.patterns import first

BENCHMARK = "Benchmark"
# How Go's panics and the runtime's ends begin: what is said of a test that ended its boot.
_FAULT = re.compile(r"^(?:\x16)?((?:panic|fatal error|runtime|SIG\w+): ?.*|unexpected fault .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Wanted:
    """Which tests and benchmarks, by patterns as `go test` takes them; none of the latter if that is empty.

    `count` is how often, `processors` how many there are for Go's scheduler: 0 for as many as the machine has, one.
    """

    run: str = ""
    bench: str = ""
    count: int = 1
    processors: int = 0


@dataclass
class Verdict:
    """What was found of one package.

    `tests` are all that ended, with their parts. `culprits` are tests that took a boot with them, and what was seen.
    `troubles` is whatever else speaks against it. `measured` are the benchmarks there are figures of.
    """

    tests: list[Test] = field(default_factory=list)
    culprits: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)
    boots: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.culprits and not self.troubles and not self.named(FAIL)

    def named(self, result: str) -> list[str]:
        """The tests, with their parts, that ended so; one that did so several times, once."""
        return list(dict.fromkeys(test.name for test in self.tests if test.result == result))


class Judge:
    """Boots one package's tests. `boot` boots the program with arguments, its output going to the user or not."""

    def __init__(self, boot: Callable[[Sequence[str], bool], Boot], wanted: Wanted, time_limit: float) -> None:
        self._boot, self._wanted = boot, wanted
        self._limit = time_limit
        self.verdict = Verdict()
        self._left: dict[str, int] = {}  # how often each test has yet to end
        self._expected: frozenset[str] = frozenset()
        self._alone: list[str] = []  # tests of which one ended a boot
        self._unexplained: list[tuple[str, list[str]]] = []  # why a boot ended while several tests were running

    def judge(self) -> Verdict:
        """The verdict. Raises UserError, Interrupted."""
        self._left = dict.fromkeys(self._listed(), self._wanted.count)
        self._expected = frozenset(self._left)
        first_boot = True
        while not self.verdict.troubles and (self._left or first_boot):
            first_boot = False
            self._alone = [name for name in self._alone if name in self._left]
            chosen = [self._alone.pop(0)] if self._alone else list(self._left)
            boot = self._run(chosen)
            self._take(boot, chosen)
        for why, suspects in self._unexplained:
            if not self.verdict.culprits.keys() & set(suspects):
                told = ", ".join(suspects)
                self.verdict.troubles.append(f"{why} (while {told} were running, none of which does it alone)")
        return self.verdict

    def _listed(self) -> list[str]:
        """The names of the tests that are to run, as the program itself tells them."""
        wanted = self._wanted
        found = [name for name in self._list(first(wanted.run) or ".") if not name.startswith(BENCHMARK)]
        if wanted.bench:
            found += [name for name in self._list(first(wanted.bench)) if name.startswith(BENCHMARK)]
        return found

    def _list(self, pattern: str) -> list[str]:
        boot = self._count(self._boot([f"-test.list={pattern}"], False))
        if boot.trouble or boot.status:
            what = boot.trouble or _fault(boot) or f"status {boot.status}"
            self.verdict.troubles.append(f"the program does not list its tests: {what}")
            return []
        return [line for line in boot.text.splitlines() if re.fullmatch(r"(?:Test|Example|Fuzz|Benchmark)\w*", line)]

    def _run(self, chosen: Sequence[str]) -> Boot:
        wanted, skipped = self._wanted, sorted(self._expected - set(chosen))
        arguments = ["-test.v=test2json", "-test.paniconexit0", f"-test.timeout={self._limit:g}s"]
        arguments += [f"-test.run={wanted.run}"] if wanted.run else []
        arguments += [f"-test.bench={wanted.bench}"] if wanted.bench else []
        arguments += [f"-test.cpu={wanted.processors}"] if wanted.processors else []
        arguments += [f"-test.count={max(self._left.values(), default=1)}"]
        arguments += [f"-test.skip=^({'|'.join(skipped)})$"] if skipped else []
        return self._count(self._boot(arguments, True))

    def _count(self, boot: Boot) -> Boot:
        self.verdict.boots += 1
        self.verdict.seconds += boot.seconds
        if boot.remarks and boot.remarks not in self.verdict.remarks:
            self.verdict.remarks.append(boot.remarks)
        return boot

    def _take(self, boot: Boot, chosen: Sequence[str]) -> None:
        """Note what ended in a boot of the tests `chosen`, and why the boot did if it ended before them."""
        said = boot.said
        self.verdict.tests += said.ended
        if strangers := [test.name for test in said.ended if top(test.name) not in self._expected]:
            self.verdict.troubles.append(f"{strangers[0]} ended, which the program did not list")
        for test in said.ended:
            self._ended(test.name)
        self.verdict.measured |= said.measured
        for name in said.measured:
            self._ended(name)
        if not boot.trouble and said.final and (boot.status == 0) == (said.final == PASS):
            self._came_to_its_end(boot, chosen)
            return
        why = _why(boot)
        if said.final:
            self.verdict.troubles.append(f"{why} (after the last test)")
            return
        suspects = self._suspects(said, chosen)
        if not suspects:
            where = f"after {said.last}" if said.last else "before the first test"
            self.verdict.troubles.append(f"{why} ({where})")
        elif len(suspects) == 1:
            self.verdict.culprits[suspects[0]] = why
            self._left.pop(suspects[0], None)
        else:
            self._alone = [*suspects, *self._alone]
            self._unexplained.append((why, suspects))

    def _suspects(self, said: Said, chosen: Sequence[str]) -> list[str]:
        """The tests that can have ended the boot."""
        panicked = next((t for t in reversed(said.ended) if t.result == FAIL and top(t.name) == said.last), None)
        if panicked is not None and panicked is said.ended[-1] and "panic:" in panicked.output:
            return [top(panicked.name)]  # it is told as failed, and then it ends the program
        running = list(dict.fromkeys(said.running))
        return running if len(chosen) > 1 or not running else list(chosen)

    def _came_to_its_end(self, boot: Boot, chosen: Sequence[str]) -> None:
        failed = any(test.result == FAIL for test in boot.said.ended)
        if boot.status and not failed:
            self.verdict.troubles.append(f"no test failed, and the status is {boot.status}")
        if absent := [name for name in chosen if name in self._left]:
            others = f" and {len(absent) - 1} others" if len(absent) > 1 else ""
            self.verdict.troubles.append(f"{absent[0]}{others} never ended, and the program said {boot.said.final}")

    def _ended(self, name: str) -> None:
        if top(name) != name or name not in self._left:
            return
        self._left[name] -= 1
        if self._left[name] <= 0:
            del self._left[name]


def _why(boot: Boot) -> str:
    """Why a boot that did not come to its end did not."""
    fault = _fault(boot)
    if boot.trouble:
        return f"{boot.trouble}: {fault}" if fault else boot.trouble
    if fault:
        return fault
    if boot.remarks and boot.status:
        return boot.remarks.splitlines()[-1]
    last = f"and its last word is {boot.said.final}" if boot.said.final else "and said neither PASS nor FAIL"
    return f"the program exited with status {boot.status}, {last}"


def _fault(boot: Boot) -> str:
    found = _FAULT.search(boot.text)
    return found[1].strip() if found else ""


def numbers(tests: Iterable[Test]) -> dict[str, int]:
    """How many ended how."""
    results = [test.result for test in tests]
    return {result: results.count(result) for result in (PASS, FAIL, SKIP)}


def refuse(wanted: Wanted) -> None:
    """Raise UserError for what no test program takes."""
    if wanted.count < 1:
        raise UserError("--count must be at least 1")
    if wanted.processors < 0:
        raise UserError("--cpu must be at least 1")
