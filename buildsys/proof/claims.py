"""The claims, in the order they are shown. Adding a claim is adding a module and its line here."""

from __future__ import annotations

from buildsys.proof import callsites, symbols
from buildsys.proof.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    symbols.CLAIM,
    callsites.CLAIM,
)
