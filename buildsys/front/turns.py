"""The order in which tasks done several at once speak: that of one at a time, so that a log is always the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Turns:
    """Has everybody speak in turn, in the order of `names`; one who is not among them, at once."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = deque(names)
        self._known = set(self._names)
        self._waiting: dict[str, Callable[[], None] | None] = {}

    def next(self, name: str, say: Callable[[], None] | None) -> list[Callable[[], None]]:
        """`name` has something to say, or nothing: what is to be said now."""
        if name not in self._known:
            return [say] if say else []
        self._waiting[name] = say
        due: list[Callable[[], None]] = []
        while self._names and self._names[0] in self._waiting:
            if each := self._waiting.pop(self._names.popleft()):
                due.append(each)
        return due

    def rest(self) -> list[Callable[[], None]]:
        """What is to be said though others will never speak."""
        said = [self._waiting.pop(name, None) for name in self._names]
        self._names.clear()
        return [each for each in said if each]


def order_of(tasks: Mapping[str, Any], selected: list[str]) -> list[str]:
    """The tasks, in the order in which doit does them one at a time; empty if that shows only as they are done."""
    if any(task.loader or task.calc_dep for task in tasks.values()):
        return []
    from doit.control import TaskDispatcher

    # Asked as if everything were up to date, doit's own dispatcher tells; it changes nothing in a task.
    generator = TaskDispatcher(tasks, {}, selected).generator
    order: list[str] = []
    node: Any = None
    while (node := _sent(generator, node)) is not None:
        node.run_status = "up-to-date"
        order.append(node.task.name)
    return order


def _sent(generator: Any, node: Any) -> Any:
    try:
        return generator.send(node)
    except StopIteration:
        return None
