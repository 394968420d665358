"""The smallest image the call-site pass has work in, made by hand."""

from __future__ import annotations

from buildsys.formats.a64 import RET, encode_branch
from buildsys.go.runtime import FLAG, Barrier, Plan

from .images import ALLOC, GLOBAL, LOCAL, OBJECT, WRITE, Name, Part, image, words

BARRIER = "runtime.gcWriteBarrier2"
ENTRY = "main.KernelMain"
PLAN = Plan(barriers=(Barrier(BARRIER, 2),), readers=(), fatal=())
BASE, DATA = 2 << 20, 1 << 30
NOP = 0xD503_201F
BL = 0x9400_0000
OLD, NEW = BASE + 16, BASE + 32  # the two functions of one name
SITES = (BASE, BASE + 4)


def kernel() -> bytes:
    """Two calls of the local barrier function, which stands after its caller and before the global one."""
    calls = [encode_branch(BL, site, OLD) for site in SITES]
    code = words(*calls, RET, NOP, RET, NOP, NOP, NOP, RET)
    names = [
        Name(ENTRY, BASE, 16),
        Name(BARRIER, OLD, 16),
        Name(BARRIER, NEW, 4, binding=GLOBAL),
        Name(FLAG, DATA, 4, OBJECT, LOCAL, 2),
    ]
    return image([Part(".text", BASE, code), Part(".data", DATA, bytes(8), ALLOC | WRITE)], names, entry=BASE)


def redirected(data: bytes) -> bytes:
    """`kernel()` after the pass."""
    for site in SITES:
        before, after = (words(encode_branch(BL, site, target)) for target in (OLD, NEW))
        assert data.count(before) == 1
        data = data.replace(before, after)
    return data
