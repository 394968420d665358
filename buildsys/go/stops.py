"""Where following what a kernel can reach ends, though code goes on.

A report (the ready set `panic`) is a run of its own: it begins by clearing the write barrier flag, has a stack, a g
and memory that the kernel has not, and ends the machine's run. What only a report runs needs nothing of the kernel.

What puts the image's tables of methods where the runtime looks them up holds the address of each, and calls none.

The functions that print floating point numbers format them, since Go 1.26, by functions that could ask for more
room. These are given all that a number can take (src/runtime/print.go tells the sum), and so never do; and should
they, there is memory to spare where the set `panic` is.
"""

from __future__ import annotations

from buildsys.formats.elf import Elf
from buildsys.go.runtime import Plan

ITABS = "buildsys.add_itabs"  # templates/sets/alloc.s.j2
REPORTS = ("buildsys.report.exception", "buildsys.report.again")  # from the vectors: templates/sets/panic.s.j2
ROOMY = (
    "runtime.printfloat32",
    "runtime.printfloat64",
    "runtime.printcomplex64",
    "runtime.printcomplex128",
)


def stops(elf: Elf, plan: Plan) -> set[int]:
    """The addresses of functions of the image that are reached and not followed."""
    reports = [name for each in plan.sets if not each.returns for name in (*each.calls, *each.entries)]
    found = set(elf.symbols.addresses(ITABS).values())
    found |= {
        symbol.value for symbols in elf.symbols.named(*reports).values() for symbol in symbols if symbol.is_global
    }
    if reports:
        found.update(elf.symbols.addresses(*REPORTS).values())
    if plan.spare and plan.of_set("print").calls:
        found.update(elf.symbols.addresses(*ROOMY).values())
    return found
