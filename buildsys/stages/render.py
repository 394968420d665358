"""Templates to text: Jinja, with symbol addresses and field offsets as functions.

A template says `address("runtime.writeBarrier")` and `offset("runtime.g.m")`;
a name that does not exist is an error with the template's file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildsys.errors import UserError


class Addresses:
    """Symbol addresses for one rendering, and which of them were asked for.

    While `known` is empty (before the first link) every address is 0.
    """

    def __init__(self, known: Mapping[str, int]) -> None:
        self._known = known
        self.asked: set[str] = set()

    def __call__(self, symbol: str) -> int:
        self.asked.add(symbol)
        if self._known and symbol not in self._known:
            raise LookupError(f"the image has no symbol {symbol!r}")
        return self._known.get(symbol, 0)


def render(folders: list[Path], name: str, values: Mapping[str, Any]) -> str:
    """The template `name`, looked for in `folders` in turn, filled with `values`.

    Raises UserError naming template and line for whatever goes wrong in it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in folders]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["hex"] = hex
    environment.filters["address32"] = _address32
    environment.filters["half"] = _half
    environment.globals.update(values)
    try:
        return environment.get_template(name).render()
    except jinja2.TemplateNotFound as error:
        looked = ", ".join(str(folder) for folder in folders)
        raise UserError(f"there is no template {error.name!r}", f"looked in {looked}") from error
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{error.filename or name}:{error.lineno}: {error.message}") from error
    except (jinja2.UndefinedError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        place = _place(error, folders)
        if place is None:
            raise  # no template is on the stack: a defect of ours
        raise UserError(f"{place}: {error.args[0] if error.args else error}") from error


def _place(error: BaseException, folders: list[Path]) -> str | None:
    """File and line of the innermost template frame: Jinja gives its code the template's lines."""
    found, trace = None, error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if any(folder in file.parents for folder in folders):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _address32(value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value:#x} does not fit the 32 bits of movz and movk")
    return value


def _half(value: int, number: int) -> str:
    """The 16 bits of `value` that a movz or movk with `lsl #16*number` holds."""
    return hex(value >> 16 * number & 0xFFFF)
