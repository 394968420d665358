"""What is done of each barriered store: the policy, as the user chooses it by `barrier` and its companions."""

from __future__ import annotations

from dataclasses import dataclass

from buildsys.config.toml import Table

DISCARD, COUNT, RECORD, USER = "discard", "count", "record", "user"
POLICIES = (DISCARD, COUNT, RECORD, USER)
# The keys that mean something under some policies only.
COMPANIONS = {"barrier-ring": (RECORD, USER), "barrier-function": (USER,)}

# Calls a ring holds: powers of two, for its handler masks or compares with one immediate; the largest
# is 5 MiB, which QEMU's stub gives in a second.
SMALLEST, LARGEST = 2, 1 << 16


@dataclass(frozen=True)
class BarrierPolicy:
    """`name` is one of POLICIES; `ring` the calls kept or given at once, `function` what each batch is given to."""

    name: str = DISCARD
    ring: int = 4096
    function: str = ""


DISCARDING = BarrierPolicy()


def barrier_policy(table: Table) -> BarrierPolicy:
    """The policy the keys of `table` choose. Raises UserError, also for a key the policy has no use for."""
    name = table.choice("barrier", POLICIES, DISCARD)
    ring = table.integer("barrier-ring", BarrierPolicy.ring)
    function = table.string("barrier-function", "")
    for key, policies in COMPANIONS.items():
        # A kernel among several may have chosen another policy than the others, which share the key.
        if key in table and name not in policies:
            meant = " or ".join(f'"{policy}"' for policy in policies)
            raise table.error(key, f'means nothing with barrier = "{name}"', f"it is for barrier = {meant}")
    if not SMALLEST <= ring <= LARGEST or ring & ring - 1:
        near = 1 << min(max(ring - 1, 1).bit_length(), LARGEST.bit_length() - 1)
        raise table.error(
            "barrier-ring", f"is {ring}, no power of two from {SMALLEST} to {LARGEST}", f"did you mean {near}?"
        )
    if name == USER and not function:
        raise table.error("barrier-function", "is missing", 'barrier = "user" gives each batch to it: "main.onBarrier"')
    ringed = name in COMPANIONS["barrier-ring"]
    return BarrierPolicy(name, ring if ringed else BarrierPolicy.ring, function if name == USER else "")
