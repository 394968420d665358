"""How a function is redirected: where the branches to the new one are put."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """CALLS: every call of the old function is re-encoded. ENTRY: its first instruction is. BOTH: both."""

    CALLS = "calls"
    ENTRY = "entry"
    BOTH = "both"

    @property
    def at_calls(self) -> bool:
        """Whether call sites are re-encoded."""
        return self is not Mode.ENTRY

    @property
    def at_entry(self) -> bool:
        """Whether the old function's first instruction becomes a branch."""
        return self is not Mode.CALLS
