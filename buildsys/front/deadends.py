"""What of an image no good end follows because the user's redirects put it in the place of what ends a kernel."""

from __future__ import annotations

import json
from pathlib import Path


def dead_ends(report: Path) -> dict[int, str]:
    """Functions of the user's, names by address, that took the place of a panic or a fatal error: by patch.json."""
    functions = json.loads(report.read_text("utf-8"))["functions"]
    return {int(each["new"], 16): each["to"] for each in functions if each.get("dead_end")}
