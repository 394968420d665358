"""A section cut into pieces: nothing twice, nothing left out, whatever the symbols say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildsys.formats.symbols import STB_LOCAL, STT_FUNC, STT_NOTYPE, Symbol
from buildsys.sizes.partition import partition

LOW, HIGH = 0x1000, 0x1100


def named(name: str, value: int, size: int, kind: int = STT_FUNC) -> Symbol:
    return Symbol(name, value, size, kind, STB_LOCAL, 1)


symbols = st.lists(
    st.builds(
        named,
        st.text("abc", min_size=1, max_size=2),
        st.integers(LOW - 32, HIGH + 32),
        st.one_of(st.just(0), st.integers(0, 400), st.just((1 << 64) - 1)),
    ),
    max_size=12,
)


def every(symbol: Symbol) -> bool:
    return True


def told(*given: Symbol) -> list[tuple[int, int, str]]:
    found = partition(LOW, HIGH, given, every)
    return [(each.low - LOW, each.high - LOW, each.symbol.name if each.symbol else "") for each in found]


@given(symbols, st.sets(st.text("abc", min_size=1, max_size=2)))
def test_the_pieces_are_the_section_to_the_byte(given: list[Symbol], holding: set[str]) -> None:
    found = partition(LOW, HIGH, given, lambda symbol: symbol.name in holding)
    assert [each.low for each in found] == [LOW, *(each.high for each in found[:-1])]
    assert found[-1].high == HIGH
    assert all(each.low < each.high for each in found)
    for each in found:
        symbol = each.symbol
        if symbol is None or not symbol.size:
            assert not any(other.size and other.value < each.high and each.low < other.end for other in given)
            assert symbol is None or (symbol.name in holding and symbol.value <= each.low)
        else:
            assert symbol.value <= each.low
            assert each.high <= symbol.end


@given(symbols)
def test_the_order_of_the_table_does_not_matter(given: list[Symbol]) -> None:
    assert told(*given) == told(*reversed(given))


def test_what_no_symbol_reaches_is_nobodys() -> None:
    assert told(named("a", LOW + 8, 8)) == [(0, 8, ""), (8, 16, "a"), (16, 256, "")]


def test_a_symbol_inside_another_has_its_own_bytes() -> None:
    assert told(named("out", LOW, 256), named("in", LOW + 16, 16)) == [(0, 16, "out"), (16, 32, "in"), (32, 256, "out")]


def test_of_two_that_overlap_the_later_one_has_what_is_of_both() -> None:
    assert told(named("a", LOW, 32), named("b", LOW + 16, 240)) == [(0, 16, "a"), (16, 256, "b")]


def test_bytes_of_two_names_are_counted_once() -> None:
    assert told(named("b", LOW, 256), named("a", LOW, 256)) == [(0, 256, "a")]


def test_a_label_has_what_follows_it_up_to_the_next_symbol() -> None:
    label = named("text", LOW + 4, 0, STT_NOTYPE)
    assert told(label, named("f", LOW + 64, 192)) == [(0, 4, ""), (4, 64, "text"), (64, 256, "f")]


def test_a_label_before_a_function_has_nothing_behind_it() -> None:
    label = named("text", LOW, 0, STT_NOTYPE)
    assert told(label, named("f", LOW, 64)) == [(0, 64, "f"), (64, 256, "")]
