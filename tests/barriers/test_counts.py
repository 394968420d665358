"""The policy `count`: what it counted is what the emulators saw."""

from __future__ import annotations

from collections import Counter

import pytest

from buildsys.barriers.counts import Counts, read_counts
from buildsys.config.barrier import COUNT
from buildsys.formats.elf import Elf
from buildsys.front.steps import Steps
from buildsys.go.runtime import STORING
from buildsys.go.sites import PAIRS_OF_A_PAGE, calls, table_for
from buildsys.proof.case import Case
from buildsys.proof.observation import Observation

from .conftest import Relink, ran

TEMPLATE = "counting.s.j2"


def counted(case: Case, machine: str = "embedded") -> Counts:
    outcome, kept = ran(case, machine)
    found = read_counts(kept, outcome.memory)
    assert found is not None
    return found


def seen(case: Case, run: Observation) -> Counter[int]:
    """Calls of what serves a collector by site, as the emulator counted them."""
    assert run.complete
    sites: Counter[int] = Counter()
    for (name, site), count in run.executions.items():
        if name in case.plan.collecting:
            sites[site] += count
    return sites


def test_the_counts_are_what_the_embedded_emulator_saw(counting: Case) -> None:
    found = counted(counting)
    assert found.sites == seen(counting, counting.embedded)
    assert found.uncounted == 0
    assert found.total > 4000


@pytest.mark.slow
def test_the_counts_are_the_blocks_that_qemu_logged(counting: Case) -> None:
    found = counted(counting, "qemu")
    assert counting.qemu is not None
    assert found.sites == seen(counting, counting.qemu)


def test_bulk_moves_are_counted_by_the_place_that_announces_them(counting: Case) -> None:
    moves = {site for name, site in counting.embedded.executions if name in counting.plan.readers}
    assert moves
    assert moves <= counted(counting).sites.keys()


def test_places_that_begin_at_one_pair_find_others(relink: Relink) -> None:
    """All of them look from four pairs on, and run through each other."""
    case = relink(COUNT, edits={TEMPLATE: {"{% set bits = sites.bits %}": "{% set bits = 2 %}"}})
    found = counted(case)
    assert found.sites == seen(case, case.embedded)


def test_what_finds_no_pair_is_counted_together(relink: Relink) -> None:
    """Six pairs are left from where all begin."""
    late = "    add     x16, x16, x17, lsl #4\n"
    case = relink(
        COUNT,
        edits={
            TEMPLATE: {
                "{% set bits = sites.bits %}": "{% set bits = 2 %}",
                late: f"{late}    add     x16, x16, #{16 * (PAIRS_OF_A_PAGE - 6)}\n",
                ".space  {{ 16 * sites.pairs }}": ".space  4096",
            }
        },
    )
    found, wanted = counted(case), seen(case, case.embedded)
    assert 3 <= len(found.sites) <= 6
    assert all(wanted[site] == count for site, count in found.sites.items())
    assert found.uncounted == wanted.total() - found.sites.total() > 0


def test_the_calls_of_an_object_are_those_that_are_patched(built: Steps, case: Case) -> None:
    names = [case.names[site.target] for site in case.sites if site.target in case.names]
    assert calls(Elf.read(built.go_object), case.plan.collecting) == sum(name in case.plan.collecting for name in names)
    assert calls(Elf.read(built.go_object), [STORING]) == 0


@pytest.mark.parametrize("sites", [0, 1, 411, 447, 512, 6104, 100_000])
def test_a_table_has_room_for_every_place_wherever_they_begin(sites: int) -> None:
    table = table_for(sites)
    assert 1 << table.bits >= 2 * sites
    assert table.pairs >= (1 << table.bits) + sites
    assert table.pairs % PAIRS_OF_A_PAGE == 0
