"""What each stack of an image is needed for at most: that of the kernel, that of exceptions, and others by name.

And what may run past the end of one without a look at it: functions without the check that Go's compiler puts
at the beginning of others (`nosplit`, and assembly). Behind a check, so much is sure: StackGuard less StackSmall bytes
(internal/abi/stack.go). Go's linker holds chains of such functions against that, as they are when it is done; what
is redirected afterwards, and what is in assembly, it does not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from buildsys.formats.elf import Elf
from buildsys.formats.references import Code
from buildsys.go.graph import Graph
from buildsys.go.indirect import OTHER
from buildsys.go.reach import Reach
from buildsys.go.runtime import STACK_GUARD
from buildsys.stacks.chains import LOST, Chains, Height, Link, Pointed
from buildsys.stacks.growth import Growths, go_code

STACK_SMALL = 128  # internal/abi/stack.go: a check of the stack's end leaves a small frame out
ROOM = STACK_GUARD - STACK_SMALL  # bytes that are sure behind a check
VECTOR, VECTORS = 0x80, 16  # Arm ARM D1.10.1: bytes of an entry of the vector table, and how many there are
EXCEPTION = "exception"


@dataclass(frozen=True)
class Extent:
    """One stack: it begins at `high` and grows down to `low`."""

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class Use:
    """What is known of the need for one stack: of `size` bytes, `bytes` by the deepest chain, `chain`.

    Nothing needs more, unless something is in `open`: see stacks.chains.
    """

    name: str
    size: int
    bytes: int
    chain: tuple[Link, ...]
    open: tuple[tuple[str, int], ...]

    @property
    def fits(self) -> bool:
        """Whether no chain can need more than there is."""
        return not self.open and self.bytes <= self.size


class Account:
    """The stacks of one image, entered at its first instruction and through its vectors.

    `reach` is what can run, by `graph`; `guards` and `ends` are as stacks.growth has them. Exceptions are handled
    on the stack called `handled_on`.
    """

    def __init__(
        self,
        elf: Elf,
        code: Code,
        graph: Graph,
        reach: Reach,
        roots: Iterable[int],
        guards: Iterable[int],
        ends: frozenset[int],
        handled_on: str = EXCEPTION,
    ) -> None:
        self._handled_on = handled_on
        growths, go = Growths(elf, code, guards, ends), go_code(elf)
        assembly = [code.body(address) for address in reach.functions if address not in go]
        called = {
            (body.base, call.target)
            for body in assembly
            for call in growths.of(body, 0).calls
            if call.target is not None and call.how == OTHER
        }
        pointed = Pointed(elf, graph, reach, called)
        self.chains = Chains(code, growths, graph, pointed)
        self.without_check = Chains(code, growths, graph, pointed, unchecked=True)
        self._roots = tuple(dict.fromkeys((elf.entry, *roots)))

    def functions(self) -> Iterator[int]:
        """Everything that can run, if only to fail, by where it is entered."""
        vectors: dict[int, None] = {}
        found: dict[int, None] = {}
        roots: Sequence[int] = self._roots
        while roots:
            found.update(dict.fromkeys(self.chains.reached(roots)))
            tables = [table for each in found for table in self.chains.growth(each).vectors if table not in vectors]
            vectors.update(dict.fromkeys(tables))
            roots = [slot for table in tables for slot in slots(table)]
        yield from found

    def uses(self, stacks: Iterable[Extent], unchecked: bool = False) -> list[Use]:
        """What each of `stacks` is needed for; `unchecked`: by what does not look at its end."""
        reached = list(self.functions())
        handled = [slot for each in reached for table in self.chains.growth(each).vectors for slot in slots(table)]
        chains = self.without_check if unchecked else self.chains
        return [self._use(chains, each, reached, handled if each.name == self._handled_on else ()) for each in stacks]

    def _use(self, chains: Chains, stack: Extent, reached: Sequence[int], handled: Iterable[int]) -> Use:
        """`handled` are entered with the whole stack before them."""
        deepest: tuple[Link, ...] = ()
        most = 0
        opened: dict[tuple[str, int], None] = {}

        def count(height: Height, links: Iterable[Link]) -> None:
            nonlocal deepest, most
            opened.update(dict.fromkeys(sorted(height.open)))
            if height.bytes > most:
                deepest, most = tuple(links), height.bytes

        for slot in dict.fromkeys(handled):
            count(chains.height(slot), chains.chain(slot))
        for each in reached:
            growth = chains.growth(each)
            opened.update(dict.fromkeys((LOST, site) for site, _ in growth.unknown))
            for site, lowest in growth.placed:
                if stack.low < lowest <= stack.high:
                    used = stack.high - lowest
                    count(Height(used), (Link(each, used, site),))
            for call in growth.calls:
                place = call.place.number if call.place.absolute else None
                if place is None or not stack.low < place <= stack.high:
                    continue
                for goal in chains.goals(each, call):
                    used, below = stack.high - place, chains.height(goal)
                    links = (Link(each, used, call.site), *chains.chain(goal))
                    count(Height(used + below.bytes, open=below.open), links)
        return Use(stack.name, stack.high - stack.low, most, deepest, tuple(opened))

    def unchecked(self) -> Use:
        """The deepest chain behind a function that looks at the stack's end, of functions that do not."""
        deepest: tuple[Link, ...] = ()
        most = 0
        opened: dict[tuple[str, int], None] = {}
        chains = self.without_check
        for each in self.functions():
            if not chains.growth(each).checked:
                continue
            for call in chains.growth(each).calls:
                for goal in chains.goals(each, call):
                    height = chains.height(goal)
                    opened.update(dict.fromkeys(sorted(height.open)))
                    if height.bytes > most:
                        most = height.bytes
                        deepest = (Link(each, 0, call.site), *chains.chain(goal))
        return Use("", ROOM, most, deepest, tuple(opened))

    @cached_property
    def unknown(self) -> dict[int, str]:
        """What could not be told of where sp is, by instruction."""
        return dict(found for each in self.functions() for found in self.chains.growth(each).unknown)


def slots(table: int) -> range:
    """Where exceptions enter the vector table at `table`."""
    return range(table, table + VECTOR * VECTORS, VECTOR)
