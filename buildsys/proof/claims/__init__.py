"""The claims, in the order they are shown. Adding a claim is adding a module and its line here."""

from __future__ import annotations

from buildsys.proof.claim import Claim
from buildsys.proof.claims import (
    barriers,
    boot_code,
    call_sites,
    executions,
    flag_at_run_time,
    flag_readers,
    handlers,
    memory_map,
    outcome,
    program_barriers,
    reproducible,
    stacks,
    stores,
    supervisor,
    symbols,
    system_calls,
)

CLAIMS: tuple[Claim, ...] = (
    barriers.CLAIM,
    symbols.CLAIM,
    call_sites.CLAIM,
    flag_readers.CLAIM,
    handlers.CLAIM,
    boot_code.CLAIM,
    memory_map.CLAIM,
    reproducible.CLAIM,
    flag_at_run_time.CLAIM,
    executions.CLAIM,
    stores.CLAIM,
    outcome.CLAIM,
    stacks.CLAIM,
)

# What is claimed besides of an image with a program in it.
OF_PROGRAMS: tuple[Claim, ...] = (supervisor.CLAIM, program_barriers.CLAIM, system_calls.CLAIM)


def of(program: bool) -> tuple[Claim, ...]:
    """The claims about an image, in the order of their numbers."""
    return (*CLAIMS, *OF_PROGRAMS) if program else CLAIMS
