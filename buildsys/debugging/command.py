"""What all commands have in common: a name in gdb, and the session they are about."""

from __future__ import annotations

from typing import ClassVar

import gdb

from buildsys.debugging.session import Session


class Command(gdb.Command):  # type: ignore[misc]  # gdb has no type information
    """One command: its `name`, the `kind` that gdb's help lists it among, what its argument is `completed` as."""

    name: ClassVar[str]
    kind: ClassVar[int]
    completed: ClassVar[int]

    def __init__(self, session: Session) -> None:
        super().__init__(self.name, self.kind, self.completed)
        self._session = session
