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
    reproducible,
    stores,
    symbols,
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
)
