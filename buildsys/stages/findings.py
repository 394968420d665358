"""What is found of the user's redirects, and what is needed to find it; how, says stages/agreement.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from buildsys.go.reach import Reach


@dataclass(frozen=True)
class Around:
    """What a redirect is judged by: what the kernel reaches in the patched image, and what does not return.

    `package` is the folder of the kernel package, by which source files are named; "" if that is not known.
    """

    reached: Reach
    ends: Collection[int]
    package: str = ""


@dataclass(frozen=True)
class Findings:
    """What was found of redirects none of which had to be refused.

    `remarks` are for the screen, `reports` what patch.json says of each, by the address of its old function.
    """

    remarks: tuple[str, ...] = ()
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
