"""What is known of a 64-bit value, bit by bit: the numbers of the abstract interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace

MASK = (1 << 64) - 1
ALWAYS = 14  # C1.2.4: condition AL


@dataclass(frozen=True)
class Value:
    """A 64-bit value of which the bits in `known` are those of `bits`; the others may be anything.

    `source` is the address it was loaded from, if it is what memory held there.
    """

    bits: int
    known: int
    source: int | None = None

    @property
    def number(self) -> int | None:
        """The value if every bit is known."""
        return self.bits if self.known == MASK else None

    def low(self, width: int) -> Value:
        """Its lowest `width` bits, the others 0."""
        if width >= 64:
            return self
        return replace(self.masked((1 << width) - 1), source=self.source)

    def masked(self, mask: int) -> Value:
        """Its bits in `mask`, the others 0."""
        return Value(self.bits & mask, (self.known | ~mask) & MASK)

    def shifted(self, kind: int, amount: int) -> Value:
        """LSL (0) or LSR (1) by `amount`; unknown for any other kind."""
        if amount == 0:
            return self
        if kind == 0:
            return Value(self.bits << amount & MASK, (self.known << amount | (1 << amount) - 1) & MASK)
        if kind == 1:
            return Value(self.bits >> amount, (self.known >> amount | ~(MASK >> amount)) & MASK)
        return UNKNOWN

    def step(self, later: Value) -> int | None:
        """How much more `later` is; None if that is not known."""
        if self == later:
            return 0
        if later.source is not None:
            return None  # a loaded value says nothing of the next one
        return None if self.number is None or later.number is None else later.number - self.number

    def advanced(self, before: Value, rounds: int) -> Value:
        """Itself after `rounds` more rounds of a loop that made it from `before` in one; else unknown."""
        step = before.step(self)
        if step == 0:
            return self
        return UNKNOWN if step is None else known(self.bits + step * rounds)

    def __add__(self, other: Value) -> Value:
        return UNKNOWN if self.number is None or other.number is None else known(self.number + other.number)

    def __sub__(self, other: Value) -> Value:
        return UNKNOWN if self.number is None or other.number is None else known(self.number - other.number)

    def __invert__(self) -> Value:
        return Value(~self.bits & self.known, self.known)

    def __and__(self, other: Value) -> Value:
        zeros = (self.known & ~self.bits) | (other.known & ~other.bits)
        return Value(self.bits & other.bits, (self.known & other.known) | zeros)

    def __or__(self, other: Value) -> Value:
        return ~(~self & ~other) if self != ZERO else other

    def __xor__(self, other: Value) -> Value:
        both = self.known & other.known
        return Value((self.bits ^ other.bits) & both, both)


UNKNOWN = Value(0, 0)
ZERO = Value(0, MASK)


def known(number: int) -> Value:
    """The value that is `number`, of which the lowest 64 bits are kept."""
    return Value(number & MASK, MASK)


@dataclass(frozen=True)
class Flags:
    """The condition flags as what made them: "sub", "add" or "and" of two values of `width` bits.

    For "and", `left` is the result and `right` zero.
    """

    operation: str
    left: Value
    right: Value
    width: int

    def satisfy(self, condition: int) -> bool | None:
        """Whether they satisfy `condition` (C1.2.4, its 4-bit code); None if that is not known."""
        # AND clears C and V: what depends on them is not a comparison.
        if self.operation == "add" or (self.operation == "and" and condition >> 1 not in (0, 2, 7)):
            return None
        return holds(condition, self.left, self.right, self.width)


def holds(condition: int, left: Value, right: Value, width: int = 64) -> bool | None:
    """Whether `condition` (its 4-bit code) holds after comparing `left` with `right`."""
    a, b = left.number, right.number
    if b == 0 and a is None and condition in (0, 1) and left.bits:
        return condition == 1  # some bit is known to be set
    if a is None or b is None:
        return None
    sign = 1 << (width - 1)
    signed = (a ^ sign) - sign, (b ^ sign) - sign
    negative = bool((a - b) & sign)
    overflow = not -sign <= signed[0] - signed[1] < sign
    results = (
        a == b,
        a >= b,
        negative,
        overflow,
        a > b,
        signed[0] >= signed[1],
        signed[0] > signed[1],
        True,
    )
    result = results[condition >> 1]
    return result != bool(condition & 1) if condition < 14 else True


def rounds_until(condition: int, earlier: tuple[Value, Value], later: tuple[Value, Value]) -> int | None:
    """After how many more rounds of a loop `condition` turns over, if what it compares goes on as it went.

    None if it never does, 0 if that cannot be told.
    """
    if earlier == later:
        return None
    steps = [before.step(after) for before, after in zip(earlier, later, strict=True)]
    left, right = (value.number for value in later)
    if left is None or right is None or None in steps or condition >> 1 in (2, 3, 7):
        return 0
    difference, step = left - right, (steps[0] or 0) - (steps[1] or 0)
    if step == 0:
        return None
    if condition >> 1 == 0:
        rounds, rest = divmod(-difference, step)
        return 1 if difference == 0 else rounds if rest == 0 and rounds > 0 else None
    # GE and HS turn over between -1 and 0, GT and HI between 0 and 1.
    edge = 0 if condition >> 1 in (1, 5) else 1
    if (difference >= edge) == (step > 0):
        return None
    return -((difference - edge) // step) if step > 0 else (difference - edge) // -step + 1
