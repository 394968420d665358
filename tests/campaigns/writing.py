"""Generated programs as Go and assembly: with redirects left to the build, or with the replacements written in.

Written in, a function that is replaced has the body of its replacement, whoever calls it and by whatever way; the
name of its original has the body it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.campaigns.programs import KINDS, NAMED, OWN, POINTER, SHAPES, Call, Function, Program, Swap


@dataclass(frozen=True)
class Written:
    """The text of program.go, and of an assembly file."""

    go: str
    assembly: str


def written(program: Program, replaced: bool) -> Written:
    """The program; `replaced` says that the replacements are written in, else others must put them there."""
    writer = _Writer(program, replaced)
    go = "\n\n".join(writer.declarations())
    return Written(f'package main\n\nimport _ "unsafe" // for go:linkname\n\n{go}\n', "\n".join(writer.tails()))


class _Writer:
    def __init__(self, program: Program, replaced: bool) -> None:
        self._program, self._replaced = program, replaced
        self._functions = {each.number: each for each in program.everyone()}
        self._swaps = {swap.old: swap for swap in program.swaps if not swap.closure}
        self._around = {swap.old: swap for swap in program.swaps if swap.closure}
        self._tails: list[str] = []

    def tails(self) -> Iterator[str]:
        """Routines that branch to a function."""
        yield "// Each goes on in a function of Go's, which returns to the caller."
        yield "// In: what that takes.   Out: what it gives.   Clobbers: what it may."
        yield "    .text"
        yield from self._tails

    def declarations(self) -> Iterator[str]:
        """Everything that program.go declares."""
        program, replaced = self._program, self._replaced
        for each in program.functions:
            swap = self._swaps.get(each.number)
            yield from self._type(each)
            yield self._function(each, swap.new if swap and replaced else each, swap if replaced else None)
        for swap in program.swaps:
            yield self._function(swap.new, swap.new, swap, swap.new.name)
            if swap.passing:
                yield self._original(swap)
        for call in program.calls():
            yield from self._beside(call)
        yield self._roots()
        yield self._kept()

    # ---- functions ----

    def _type(self, function: Function) -> Iterator[str]:
        if function.receiver:
            yield f"type {function.type} struct {{\n\tn uint64\n\tm uint32\n}}"
            yield f"var v{function.number} = {function.type}{{{function.number}, 3}}"

    def _function(self, function: Function, body: Function, swap: Swap | None, name: str = "") -> str:
        """`function` with the code of `body`; `name` if it is not its own."""
        marks = [f"//go:{mark}" for mark in ("noinline", "nosplit") if getattr(function, mark)]
        if name and "//go:noinline" not in marks:
            marks.append("//go:noinline")
        return "\n".join((*marks, f"func {self._head(function, name)} {{", *_in(self._body(body, swap)), "}"))

    def _head(self, function: Function, name: str = "") -> str:
        """Its name and what it takes and gives; a receiver too, unless it has another name."""
        taken = [f"a{at} {kind}" for at, kind in enumerate(_taken(function))]
        receiver = f"({taken.pop(0)}) " if function.receiver and not name else ""
        given = ", ".join(function.results)
        return f"{receiver}{name or function.name}({', '.join(taken)}) ({given})"

    def _body(self, function: Function, swap: Swap | None) -> Iterator[str]:
        number = function.number
        yield "x := zero"
        for at, kind in enumerate(_taken(function)):
            yield f"x = mix(x, {_fold(kind, f'a{at}')})"
        yield f"x = {'note' if function.noted else 'enter'}({number}, x)"
        if not function.nosplit:
            yield f"if spent() {{ {self._results(function)} }}"
        if function.store:
            yield "keep[x&7] = &words[x>>3&15]"
        if swap and swap.passing and function.number == swap.new.number:
            passed = [f"a{at}" for at in range(len(_taken(function)))]
            if function.variadic:
                passed[-1] += "..."
            old = self._functions[swap.old]
            yield from _called(f"{original(swap)}({', '.join(passed)})", old.results)
        for call in function.calls:
            yield from self._statement(call, function)
        yield self._results(function)

    def _results(self, function: Function) -> str:
        return "return " + ", ".join(_make(kind, f"x+{at}") for at, kind in enumerate(function.results))

    def _original(self, swap: Swap) -> str:
        """The function by which the original is called."""
        old, name = self._functions[swap.old], original(swap)
        if self._replaced:
            return self._function(old, old, None, name)
        if swap.passing == NAMED:
            return self._bound(name, old, f"original.{old.symbol}")
        # The one of the kernel's own does something else, until it is overwritten.
        results = ", ".join(_make(kind, "hash") for kind in old.results)
        return f"//go:noinline\nfunc {self._head(old, name)} {{\n\thash = mix(hash, fuel)\n\treturn {results}\n}}"

    def _bound(self, name: str, function: Function, symbol: str) -> str:
        """A function without a body, passed what `function` is: it is the one of that symbol."""
        return f"//go:noescape\n//go:linkname {name} {symbol}\nfunc {self._head(function, name)}"

    # ---- calls ----

    def _statement(self, call: Call, caller: Function | None) -> Iterator[str]:
        """The call as it stands in a body, where `x` is to be changed by it."""
        body = list(self._shaped(call, caller))
        if call.target in self._swaps or call.number in self._around:
            body.insert(0, f"marks |= {1 << SHAPES.index(call.shape):#x}")
        match call.when:
            case "if":
                yield from (f"if x&{1 << call.salt % 3} != 0 {{", *_in(body), "}")
            case "else":
                yield from (f"if x&3 == {call.salt & 3} {{", "\tx = mix(x, 5)", "} else {", *_in(body), "}")
            case "loop":
                yield from ("for i := uint64(0); i < 2; i++ {", *_in(["x = mix(x, i)", *body]), "}")
            case _:
                yield from ("{", *_in(body), "}")

    def _shaped(self, call: Call, caller: Function | None) -> Iterator[str]:
        target = self._functions[call.target]
        number, given = call.number, self._arguments(call)
        name = f"v{target.number}.{target.name}" if target.receiver else target.name
        typed = f"(*{target.type})" if target.receiver == POINTER else target.type
        here = f"&v{target.number}" if target.receiver == POINTER else f"v{target.number}"
        match call.shape:
            case "itself":
                assert caller is not None
                if target.receiver and caller.is_new:
                    name, given = target.name, ", ".join(filter(None, ("a0", given)))
                elif target.receiver:
                    name = f"a0.{target.name}"
                yield from _called(f"{name}({given})", target.results)
            case "alias" | "tail":
                yield from _called(f"{call.shape}{number}({given})", target.results)
            case "defer" | "defer in a loop" | "go" | "go a closure" | "generic" | "deferred closure" | "closure":
                yield f"x = mix(x, c{number}(x))"
            case "table":
                yield from _called(f"g{number}[(zero+1)&1]({given})", target.results)
            case "field":
                yield from _called(f"g{number}.f({given})", target.results)
            case "passed" | "bound":
                yield from _called(f"c{number}({', '.join(filter(None, (name, given)))})", target.results)
            case "returned":
                yield from _called(f"c{number}()({given})", target.results)
            case "local":
                yield f"g := {name}"
                yield from _called(f"g({given})", target.results)
            case "expression":
                yield from _called(f"c{number}({', '.join(filter(None, (f'{typed}.{target.name}', here, given)))})",
                                   target.results)  # fmt: skip
            case "interface" | "embedded in interface" | "embedded" | "embedded pointer":
                yield from _called(f"g{number}.{target.name}({given})", target.results)
            case "copy":
                yield f"v := {target.type}{{x, 4}}"
                yield from _called(f"v.{target.name}({given})", target.results)
            case _:
                yield from _called(f"{name}({given})", target.results)

    def _beside(self, call: Call) -> Iterator[str]:
        """What the call needs to be declared."""
        target = self._functions[call.target]
        number, given = call.number, self._arguments(call)
        name = f"v{target.number}.{target.name}" if target.receiver else target.name
        kind = _type(target, target.parameters)
        direct = list(_called(f"{name}({given})", target.results))
        match call.shape:
            case "alias":
                yield self._bound(f"alias{number}", target, target.symbol)
            case "tail":
                yield self._bound(f"tail{number}", target, f"tail{number}")
                self._tails.append(f"    .global tail{number}\ntail{number}:\n    b       {target.symbol}")
            case "defer":
                yield _around(number, ["defer enter(2, x)", f"defer {name}({given})", "return mix(x, 1)"])
            case "defer in a loop":
                yield _around(
                    number,
                    [
                        "for i := uint64(0); i < 2; i++ {",
                        "\tx = mix(x, i)",
                        f"\tdefer {name}({given})",
                        "}",
                        "return x",
                    ],
                )
            case "deferred closure":
                yield _around(number, ["defer func() {", *_in([*direct, "r = mix(r, x)"]), "}()", "return mix(x, 7)"])
            case "go":
                yield _around(number, [f"go {name}({given})", "return mix(x, hash)"])
            case "go a closure":
                yield _around(number, ["go func() {", *_in([*direct, "r = mix(r, x)"]), "}()", "return mix(x, hash)"])
            case "generic":
                yield (
                    f"//go:noinline\nfunc d{number}[T uint64 | uint8](y T) T {{\n\tx := uint64(y)\n"
                    + "\n".join(_in(direct))
                    + "\n\treturn T(x)\n}"
                )
                yield _around(number, [f"return d{number}(x) + uint64(d{number}(uint8(x)))"])
            case "closure":
                swap = self._around.get(number)
                inner = (
                    self._body(swap.new, None) if swap and self._replaced else ["x := mix(a0, y)", *direct, "return x"]
                )
                yield f"//go:noinline\nfunc d{number}(f func(uint64) uint64, x uint64) uint64 {{ return f(x) }}"
                yield _around(
                    number,
                    [
                        "y := x + hash",
                        f"return d{number}(func(a0 uint64) uint64 {{",
                        *_in([] if not (swap and self._replaced) else ["_ = y"]),
                        *_in(inner),
                        "}, x)",
                    ],
                )
            case "table":
                yield f"var g{number} = [...]{kind}{{d{number}, {name}}}"
                yield self._other(target, f"d{number}")
            case "field":
                yield f"var g{number} = struct {{\n\tn uint64\n\tf {kind}\n}}{{1, {name}}}"
            case "returned":
                yield f"//go:noinline\nfunc c{number}() {kind} {{ return {name} }}"
            case "passed" | "bound":
                yield self._passing(number, target, kind, target.parameters)
            case "expression":
                yield self._passing(number, target, _type(target, target.taken), target.taken)
            case "interface":
                yield f"type i{number} interface{{ {self._method(target)} }}"
                yield f"var g{number} i{number} = &v{target.number}"
            case "embedded":
                yield f"type e{number} struct {{\n\tn uint64\n\t{target.type}\n}}"
                yield f"var g{number} = e{number}{{n: 1}}"
            case "embedded pointer":
                yield f"type e{number} struct {{\n\tn uint64\n\t*{target.type}\n}}"
                yield f"var g{number} = e{number}{{1, &v{target.number}}}"
            case "embedded in interface":
                inside = ("*" if call.salt & 1 else "") + target.type
                more = "n uint64\n\t" if call.salt & 2 else ""
                yield f"type e{number} struct {{\n\t{more}{inside}\n}}"
                yield f"type i{number} interface{{ {self._method(target)} }}"
                value = f"&v{target.number}" if call.salt & 1 else f"{target.type}{{5, 6}}"
                yield f"var h{number} = e{number}{{{'2, ' if more else ''}{value}}}"
                yield f"var g{number} i{number} = &h{number}"

    def _passing(self, number: int, target: Function, kind: str, taken: Sequence[str]) -> str:
        """A function that is given the target, and what it is to be given."""
        types = _taken(target)[len(_taken(target)) - len(taken) - target.variadic :]
        given = [f"a{at}" for at in range(len(types))]
        listed = ", ".join((f"f {kind}", *(f"{name} {type_}" for name, type_ in zip(given, types, strict=True))))
        if target.variadic:
            given[-1] += "..."
        called = f"f({', '.join(given)})"
        results = f"({', '.join(target.results)})"
        return f"//go:noinline\nfunc c{number}({listed}) {results} {{ {'return ' if target.results else ''}{called} }}"

    def _other(self, target: Function, name: str) -> str:
        """A function of the same type, that is never called."""
        results = ", ".join(_make(kind, "zero") for kind in target.results)
        taken = ", ".join(f"a{at} {kind}" for at, kind in enumerate(_variadic(target.parameters, target)))
        return f"//go:noinline\nfunc {name}({taken}) ({', '.join(target.results)}) {{ return {results} }}"

    def _method(self, target: Function) -> str:
        taken = ", ".join(_variadic(target.parameters, target))
        return f"{target.name}({taken}) ({', '.join(target.results)})"

    def _arguments(self, call: Call) -> str:
        target, salt = self._functions[call.target], call.salt
        given = [_make(kind, f"x+{salt + 7 * at}") for at, kind in enumerate(target.parameters)]
        if target.variadic:
            given += (["x", "x+1"], ["words[x&7:9]..."], [], ["1"])[salt >> 4 & 3]
        return ", ".join(given)

    # ---- what the kernel calls ----

    def _roots(self) -> str:
        lines = ["x := i + zero", "switch i {"]
        for at, call in enumerate(self._program.roots):
            lines += [f"case {at}:", *_in(self._statement(call, None))]
        lines += ["}", "hash = mix(hash, x)"]
        return (
            f"const roots = {len(self._program.roots)}\n\n//go:noinline\nfunc root(i uint64) {{\n"
            + "\n".join(_in(lines))
            + "\n}"
        )

    def _kept(self) -> str:
        """What nothing runs: it keeps functions in the image, and calls some."""
        lines = ["x := zero"]
        for call in self._program.idle:
            lines += self._statement(call, None)
        for swap in self._program.swaps:
            function = swap.new
            given = [_make(kind, "x") for kind in function.parameters]
            lines += _called(f"{function.name}({', '.join(self._zeros(swap, given))})", function.results)
            if swap.passing == OWN:
                old = self._functions[swap.old]
                given = self._zeros(swap, [_make(kind, "x") for kind in old.parameters])
                lines += _called(f"{original(swap)}({', '.join(given)})", old.results)
        for each in self._program.functions:
            given = [_make(kind, "x") for kind in each.parameters]
            name = f"v{each.number}.{each.name}" if each.receiver else each.name
            lines += _called(f"{name}({', '.join(given)})", each.results)
        return "//go:noinline\nfunc kept() {\n" + "\n".join(_in([*lines, "hash = x"])) + "\n}"

    def _zeros(self, swap: Swap, given: list[str]) -> list[str]:
        if swap.closure or not swap.new.receiver:
            return given
        pointer = swap.new.receiver == POINTER
        return [f"{'&' if pointer else ''}v{swap.old}", *given]


def original(swap: Swap) -> str:
    return f"{'original' if swap.passing == NAMED else 'stands'}{swap.old}"


def _taken(function: Function) -> tuple[str, ...]:
    return (*function.taken, *(("...uint64",) if function.variadic else ()))


def _variadic(parameters: Sequence[str], function: Function) -> tuple[str, ...]:
    return (*parameters, *(("...uint64",) if function.variadic else ()))


def _type(function: Function, taken: Sequence[str]) -> str:
    return f"func({', '.join(_variadic(taken, function))}) ({', '.join(function.results)})"


def _called(call: str, results: Sequence[str]) -> Iterator[str]:
    """A call and what is made of its results."""
    if not results:
        yield call
        yield "x = mix(x, 3)"
        return
    names = [f"r{at}" for at in range(len(results))]
    yield "{"
    yield f"\t{', '.join(names)} := {call}"
    for name, kind in zip(names, results, strict=True):
        yield f"\tx = mix(x, {_fold(kind, name)})"
    yield "}"


def _make(kind: str, of: str) -> str:
    return f"make{KINDS[kind]}({of})"


def _fold(kind: str, value: str) -> str:
    if kind == "...uint64":
        return f"foldSlice({value})"
    if kind in KINDS:
        return f"fold{KINDS[kind]}({value})"
    return f"mix({value}.n, uint64({value}.m))"


def _around(number: int, lines: Sequence[str]) -> str:
    return f"//go:noinline\nfunc c{number}(x uint64) (r uint64) {{\n" + "\n".join(_in(lines)) + "\n}"


def _in(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (f"\t{line}" for line in lines)
