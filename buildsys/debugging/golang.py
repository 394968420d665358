"""What Go's own gdb helper (src/runtime/runtime-gdb.py) gets wrong, put right."""

from __future__ import annotations

import gdb

# The fields that hold a length, by how the name of a Go type begins; maps are of Go 1.24 and newer, and of older ones.
LENGTHS = (("map[", ("used", "count")), ("chan ", ("qcount",)), ("", ("len",)))


class Length(gdb.Function):  # type: ignore[misc]  # gdb has no type information
    """$len(VALUE): the length of a string, slice, map or channel.

    That of Go 1.24 to 1.27 fails for every map: its GoLenFunc looks into a value it does not have.
    """

    def __init__(self) -> None:
        super().__init__("len")

    def invoke(self, value: gdb.Value) -> gdb.Value:
        """The length."""
        name = str(value.type).removeprefix("struct ")
        names = next(names for begins, names in LENGTHS if name.startswith(begins))
        if name.startswith(("map[", "chan ")):
            value = value.referenced_value()  # Go's variables of these types are pointers
        known = {field.name for field in value.type.strip_typedefs().fields()}
        found = next((each for each in names if each in known), None)
        if found is None:
            raise gdb.GdbError(f"{name} has no length")
        return value[found]


def mend() -> None:
    """Put ours in the place of what fails."""
    Length()
