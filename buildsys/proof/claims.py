"""The claims, in the order they are shown. Adding a claim is adding a module and its line here."""

from __future__ import annotations

from buildsys.proof import (
    barriers,
    boot_code,
    callsites,
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
from buildsys.proof.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    barriers.CLAIM,
    symbols.CLAIM,
    callsites.CLAIM,
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
