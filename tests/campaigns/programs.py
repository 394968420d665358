"""Go programs by chance: functions of many signatures that call each other in every way Go has.

A program is a value: it is made of a seed, written as Go elsewhere (writing.py), and can be made smaller. Functions
only call those behind them, and themselves, so that a replacement never leads back to what it replaces; and a
program ends because each function that runs uses up fuel. Some functions are to be replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

NEW = 500  # numbers of functions that take the place of others begin here
AROUND = 1000  # and of those that take the place of closures

# Types of arguments and results as Go calls them, with what trace.go calls their functions.
KINDS = {
    "bool": "Bool",
    "uint8": "Byte",
    "int16": "Int16",
    "int32": "Int32",
    "uint64": "Uint64",
    "int": "Int",
    "float32": "Float32",
    "float64": "Float64",
    "complex128": "Complex",
    "string": "String",
    "[]uint64": "Slice",
    "[3]uint16": "Array",
    "*uint64": "Pointer",
    "pair": "Pair",
    "mixed": "Mixed",
    "large": "Large",
    "nested": "Nested",
    "valuer": "Valuer",
    "func(uint64) uint64": "Callee",
    "struct{}": "Nothing",
}

# What may not grow the stack has 792 bytes of it (cmd/link, "nosplit stack over"), without optimisation too: it
# passes few values, and none of these.
NARROW, WIDE = 4, ("large", "nested", "mixed")

# How a call is written. Of FREE ones every instruction that goes to the function is a branch to it; BY_ADDRESS
# it is called through a pointer; of what is in neither the compiler decides.
FREE = (
    "direct", "alias", "tail", "defer", "defer in a loop", "deferred closure", "closure", "generic", "go",
    "go a closure", "bound", "copy", "embedded", "embedded pointer", "embedded in interface",
)  # fmt: skip
BY_ADDRESS = ("table", "field", "passed", "returned")
SHAPES = (*FREE, *BY_ADDRESS, "local", "expression", "interface", "itself")
PLAIN = (
    "direct", "direct", "alias", "tail", "defer", "defer in a loop", "deferred closure", "closure", "generic", "go",
    "go a closure", "table", "field", "passed", "returned", "local",
)  # fmt: skip
METHOD = (
    "direct", "direct", "copy", "defer", "defer in a loop", "deferred closure", "closure", "generic", "go",
    "go a closure", "bound", "expression", "interface", "embedded", "embedded pointer", "embedded in interface",
    "embedded in interface",
)  # fmt: skip
WHEN = ("", "", "", "if", "else", "loop")
VALUE, POINTER = "value", "pointer"  # receivers
NAMED, OWN = "named", "own"  # how an original is called: original.main.f, or by a function of the kernel's


@dataclass(frozen=True)
class Call:
    """A call of the function `target`, in a shape, `salt` making its arguments; `number` is its own."""

    number: int
    shape: str
    target: int
    when: str
    salt: int


@dataclass(frozen=True)
class Function:
    """A function: `number` is what the trace shows of it. A method has a receiver, of a type of its own.

    A leaf makes no calls. `store` puts a pointer into memory, through a write barrier.
    """

    number: int
    receiver: str
    parameters: tuple[str, ...]
    variadic: bool
    results: tuple[str, ...]
    noinline: bool
    nosplit: bool = False
    noted: bool = False
    store: bool = False
    calls: tuple[Call, ...] = ()

    @property
    def name(self) -> str:
        """As Go calls it, without package and receiver."""
        return f"f{self.number}"

    @property
    def type(self) -> str:
        """The type of its receiver; what takes the place of a method takes that of the method's."""
        return f"t{self.number % NEW}"

    @property
    def is_new(self) -> bool:
        """Whether it takes the place of another; a receiver is its first argument then."""
        return self.number >= NEW

    @property
    def symbol(self) -> str:
        """As the linker calls it."""
        if not self.receiver or self.is_new:
            return f"main.{self.name}"
        return f"main.(*{self.type}).{self.name}" if self.receiver == POINTER else f"main.{self.type}.{self.name}"

    @property
    def taken(self) -> tuple[str, ...]:
        """The types of everything it is passed; of a method the receiver comes first."""
        receiver = {"": (), VALUE: (self.type,), POINTER: ("*" + self.type,)}[self.receiver]
        return (*receiver, *self.parameters)


@dataclass(frozen=True)
class Swap:
    """`new` takes the place of the function `old`, or of the closure around the call `old` if `closure`.

    `passing` says how it calls the original, if it does.
    """

    old: int
    new: Function
    passing: str = ""
    closure: bool = False


@dataclass(frozen=True)
class Program:
    """Functions by number, the calls the kernel begins with, those nothing runs, and what is replaced."""

    functions: tuple[Function, ...]
    roots: tuple[Call, ...]
    idle: tuple[Call, ...]
    swaps: tuple[Swap, ...]

    def function(self, number: int) -> Function:
        """The function of that number."""
        return next(each for each in self.functions if each.number == number)

    def everyone(self) -> tuple[Function, ...]:
        """The functions, and those that take the place of some."""
        return (*self.functions, *(swap.new for swap in self.swaps))

    def calls(self) -> Iterator[Call]:
        """Every call there is."""
        yield from self.roots
        yield from self.idle
        for each in self.everyone():
            yield from each.calls

    def old_name(self, swap: Swap) -> str:
        """The symbol of what is replaced."""
        return f"main.c{swap.old}.func1" if swap.closure else self.function(swap.old).symbol


def program(chance: Random, count: int = 60) -> Program:
    """A program of `count` functions."""
    maker = _Maker(chance, count)
    swaps = [maker.swap(each) for each in maker.functions if each.noinline and chance.random() < 0.45]
    roots = [maker.call(range(1, count + 1)) for _ in range(10)]
    roots += [maker.call([swap.old]) for swap in swaps]
    idle = [maker.call(range(1, count + 1)) for _ in range(5)]
    closures = [each.number for each in roots if each.shape == "closure"]
    around = [maker.around(number) for number in closures if chance.random() < 0.5]
    functions = tuple(maker.filled(each, each.number) for each in maker.functions)
    return Program(functions, tuple(roots), tuple(idle), (*swaps, *around))


def smaller(program: Program) -> Iterator[Program]:
    """Programs with a little less in them: those with much less come first. Functions nobody calls are left out."""
    for part in ("roots", "idle", "swaps"):
        has = getattr(program, part)
        for size in (len(has) // 2, len(has) // 4, 1):
            for at in range(0, len(has), size or 1):
                if size and (size > 1 or len(has) > 1 or part == "idle"):
                    yield _needed(replace(program, **{part: has[:at] + has[at + size :]}))
    for each in program.functions:
        for at in range(len(each.calls)):
            less = replace(each, calls=each.calls[:at] + each.calls[at + 1 :])
            functions = tuple(less if other is each else other for other in program.functions)
            yield _needed(replace(program, functions=functions))
    for swap in program.swaps:
        for at in range(len(swap.new.calls)):
            new = replace(swap.new, calls=swap.new.calls[:at] + swap.new.calls[at + 1 :])
            swaps = tuple(replace(swap, new=new) if other is swap else other for other in program.swaps)
            yield _needed(replace(program, swaps=swaps))


def _needed(program: Program) -> Program:
    """The program without functions that nothing calls, and without replacements of closures that are not there."""
    around = {call.number for call in program.roots}
    swaps = tuple(each for each in program.swaps if not each.closure or each.old in around)
    known = {each.number: each for each in program.functions}
    pending = [call.target for call in (*program.roots, *program.idle)]
    pending += [call.target for swap in swaps for call in swap.new.calls]
    pending += [swap.old for swap in swaps if not swap.closure]
    used: set[int] = set()
    while pending:
        number = pending.pop()
        if number in known and number not in used:
            used.add(number)
            pending += [call.target for call in known[number].calls]
    functions = tuple(each for each in program.functions if each.number in used)
    return replace(program, functions=functions, swaps=swaps)


class _Maker:
    """Parts of a program; `functions` have no calls yet."""

    def __init__(self, chance: Random, count: int) -> None:
        self._chance = chance
        self._calls = 0
        self.functions = [self._function(number) for number in range(1, count + 1)]

    def _function(self, number: int) -> Function:
        chance = self._chance
        noinline = chance.random() < 0.8
        made = Function(
            number,
            receiver=chance.choice(("", "", VALUE, POINTER)),
            parameters=tuple(self._kind() for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4, 6, 9)))),
            variadic=chance.random() < 0.15,
            results=tuple(self._kind() for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 5)))),
            noinline=noinline,
            nosplit=noinline and chance.random() < 0.1,
            noted=chance.random() < 0.3,
            store=chance.random() < 0.2,
        )
        passed = (*made.parameters, *made.results)
        is_small = len(passed) <= NARROW and not any(each in WIDE for each in passed)
        return made if is_small else replace(made, nosplit=False)

    def filled(self, function: Function, place: int) -> Function:
        """`function` with calls of those behind `place`. What may not grow the stack makes none."""
        if function.nosplit:
            return replace(function, noted=True, store=False)
        chance, behind = self._chance, range(place + 1, len(self.functions) + 1)
        calls = [self.call(behind) for _ in range(chance.choice((0, 0, 1, 2, 2, 3))) if behind]
        if chance.random() < 0.25:
            calls.insert(chance.randint(0, len(calls)), self._itself(function))
        return replace(function, calls=tuple(calls))

    def swap(self, old: Function) -> Swap:
        """Something to take the place of `old`: it is passed the same."""
        chance = self._chance
        new = replace(old, number=NEW + old.number, nosplit=False, noted=chance.random() < 0.3)
        return Swap(old.number, self.filled(new, old.number), chance.choice(("", "", NAMED, OWN)))

    def around(self, number: int) -> Swap:
        """Something to take the place of the closure around the call `number`."""
        return Swap(number, Function(AROUND + number, "", ("uint64",), False, ("uint64",), noinline=True), closure=True)

    def call(self, targets: Sequence[int]) -> Call:
        """A call of one of `targets`."""
        chance = self._chance
        target = self.functions[chance.choice(targets) - 1]
        shape = chance.choice(METHOD if target.receiver else PLAIN)
        self._calls += 1
        return Call(self._calls, shape, target.number, chance.choice(WHEN), chance.getrandbits(16))

    def _itself(self, function: Function) -> Call:
        self._calls += 1
        return Call(self._calls, "itself", function.number, "if", self._chance.getrandbits(16))

    def _kind(self) -> str:
        return self._chance.choice(list(KINDS))
