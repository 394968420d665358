"""Templates to text: Jinja, with symbol addresses and field offsets as functions.

A template says `address("runtime.writeBarrier")` and `offset("runtime.g.m")`;
a name that does not exist is an error with the template's file and line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
        """The address of `symbol`. Raises LookupError if the image has none."""
        self.asked.add(symbol)
        if self._known and symbol not in self._known:
            raise LookupError(f"the image has no symbol {symbol!r}")
        return self._known.get(symbol, 0)


class Templates:
    """The templates in `folders`, looked for in turn; `compiled` is where their compiled form is kept."""

    def __init__(self, folders: Sequence[Path], compiled: Path) -> None:
        import jinja2

        self._folders = list(folders)
        compiled.mkdir(parents=True, exist_ok=True)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([str(folder) for folder in folders]),
            # Entries are found by a hash of the template's text.
            bytecode_cache=jinja2.FileSystemBytecodeCache(str(compiled), "%s"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )
        self._environment.filters |= {"hex": hex, "address32": _address32, "half": _half}

    def load(self, *names: str) -> None:
        """Compile templates ahead of their use; what is wrong with them shows when they are used."""
        import jinja2

        with suppress(jinja2.TemplateError):
            for name in names:
                self._environment.get_template(name)

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The template `name` filled with `values`.

        Raises UserError naming template and line for whatever goes wrong in it.
        """
        import jinja2

        self._environment.globals.update(values)
        try:
            return self._environment.get_template(name).render(values)
        except jinja2.TemplateNotFound as error:
            looked = ", ".join(str(folder) for folder in self._folders)
            raise UserError(f"there is no template {error.name!r}", f"looked in {looked}") from error
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{error.filename or name}:{error.lineno}: {error.message}") from error
        except (jinja2.UndefinedError, LookupError, ValueError, TypeError, ArithmeticError) as error:
            place = _place(error, self._folders)
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
