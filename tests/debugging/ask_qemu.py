"""Run inside gdb: what `info pages` says, and where QEMU's monitor says that the ends of each of its ranges are."""

import json
import re

import gdb


def translated(address: int) -> int | None:
    said = gdb.execute(f"monitor gva2gpa {address:#x}", to_string=True)
    found = re.search(r"gpa: (0x\w+)", said)
    assert found or "Unmapped" in said, said
    return int(found[1], 16) if found else None


told = gdb.execute("info pages", to_string=True)
edges = [
    int(edge, 16) for low, high in re.findall(r"^ +(0x\w+) +\.\. +(0x\w+) ", told, re.MULTILINE) for edge in (low, high)
]
asked = sorted({at for edge in edges for at in (edge - 1, edge) if at >= 0})
walks = {edge: gdb.execute(f"info pages {edge:#x}", to_string=True).splitlines()[-1] for edge in edges[-6:]}
print(json.dumps({"told": told, "qemu": {at: translated(at) for at in asked}, "walks": walks}))
