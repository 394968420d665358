"""Templates to text: Jinja, with symbol addresses and field offsets as functions.

A template says `address("runtime.writeBarrier")` and `offset("runtime.g.m")`, and
`original("runtime.panicIndex")` for the runtime's own function where ours has the
same name; a name that does not exist is an error with the template's file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildsys.errors import UserError
from buildsys.files import replace

if TYPE_CHECKING:
    import jinja2
    from jinja2.bccache import Bucket

DIGEST = 32  # bytes
TEMPLATE = ".j2"  # what the name of one ends in
ORIGINAL = "original "  # before a name: Go's own function of that name, not ours
ABSENT = -1  # in the place of an address: the image has no such symbol


class Addresses:
    """Symbol addresses for one rendering, and which of them were asked for.

    One that is not in `known` (no link had the symbol so far) is 0.
    """

    def __init__(self, known: Mapping[str, int]) -> None:
        self._known = known
        self.asked: set[str] = set()

    def __call__(self, symbol: str) -> int:
        """The address of `symbol`. Raises LookupError if the image is known to have none."""
        self.asked.add(symbol)
        address = self._known.get(symbol, 0)
        if address == ABSENT:
            raise LookupError(f"the image has no symbol {symbol!r}")
        return address


class Templates:
    """The templates in `folders`, looked for in turn; `compiled` is where their compiled form is kept."""

    def __init__(self, folders: Sequence[Path], compiled: Path) -> None:
        import jinja2

        self._folders = list(folders)
        self._values: Mapping[str, Any] = {}
        self._read: dict[str, str | None] = {}
        self._twice: set[str] = set()
        compiled.mkdir(parents=True, exist_ok=True)
        self._environment = jinja2.Environment(
            loader=_loader(folders, self._read, self._twice),
            # Entries are checked against a hash of the template's text.
            bytecode_cache=_cache(compiled),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,  # constants are few, and to fold them takes an eighth of compiling a template
        )
        self._environment.filters |= {"hex": hex, "address32": _address32, "half": _half}

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The template `name` filled with `values`.

        Raises UserError naming template and line for whatever goes wrong in it.
        """
        import jinja2

        if values is not self._values:
            self._values = values
            self._environment.globals.update(values)
        if self._environment.cache is not None:
            # An imported module keeps the values it was first imported with, and does not ask again for what it asked.
            self._environment.cache.clear()
        self._read.clear()
        self._twice.clear()
        try:
            return self._environment.get_template(name).render(values)
        except jinja2.TemplateNotFound as error:
            looked = ", ".join(str(folder) for folder in self._folders)
            raise UserError(
                f"{_place(error, self._folders, ': ')}there is no template {error.name!r}", f"looked in {looked}"
            ) from error
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{error.filename or name}:{error.lineno}: {error.message}") from error
        except UnicodeDecodeError as error:
            where = _place(error, self._folders, ": what it includes") or name
            raise UserError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error
        except (jinja2.TemplateError, LookupError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            place = _place(error, self._folders)
            if not place:
                raise  # no template is on the stack: a defect of ours
            raise UserError(f"{place}: {error.args[0] if error.args else error}") from error

    def compile(self, names: Iterable[str], kept: bool = True) -> None:
        """Compile each template `names`, to be `kept` where the next rendering looks for it.

        Of what is no template, or a wrong one, nothing is said: the rendering will.
        """
        import jinja2

        for name in names:
            with suppress(jinja2.TemplateError, OSError, UnicodeDecodeError, RecursionError):
                if kept:
                    self._environment.get_template(name)
                else:
                    self._environment.compile(self.text(name) or "")

    def read(self) -> dict[str, str | None] | None:
        """Each template that the last rendering looked for, by name: the text it was made of, None if there was none.

        None instead if one was edited meanwhile, so that there is no one text it was made of.
        """
        return None if self._twice else dict(self._read)

    def text(self, name: str) -> str | None:
        """The template `name`, None if there is none that can be read."""
        import jinja2

        assert self._environment.loader is not None
        try:
            return self._environment.loader.get_source(self._environment, name)[0]
        except (jinja2.TemplateNotFound, UnicodeDecodeError):
            return None


def _loader(folders: Sequence[Path], read: dict[str, str | None], twice: set[str]) -> jinja2.BaseLoader:
    """What finds templates in `folders`. It notes in `read` the text each came with, None if there is none.

    What came once more with another text, for it was edited meanwhile, is in `twice`.
    """
    import jinja2

    class Loader(jinja2.FileSystemLoader):
        def get_source(self, environment: jinja2.Environment, template: str) -> Any:
            try:
                found = super().get_source(environment, template)
            except jinja2.TemplateNotFound:
                read[template] = None
                raise
            if read.setdefault(template, found[0]) != found[0]:
                twice.add(template)
            return found

    return Loader([str(folder) for folder in folders])


def _cache(folder: Path) -> jinja2.BytecodeCache:
    """Compiled templates in `folder`, each behind its sha256: what was lost or changed there is compiled again."""
    from hashlib import sha256

    import jinja2

    class Cache(jinja2.BytecodeCache):
        def load_bytecode(self, bucket: Bucket) -> None:
            try:
                stored = (folder / bucket.key).read_bytes()
                if sha256(stored[DIGEST:]).digest() == stored[:DIGEST]:
                    bucket.bytecode_from_string(stored[DIGEST:])
            except Exception:  # pickle and marshal raise whatever the bytes of another Python lead them to
                bucket.reset()

        def dump_bytecode(self, bucket: Bucket) -> None:
            compiled = bucket.bytecode_to_string()
            replace(folder / bucket.key, sha256(compiled).digest(), compiled)

    return Cache()


def _place(error: BaseException, folders: list[Path], then: str = "") -> str:
    """File and line of the outermost template frame, and of the innermost if that is in another file, and `then`.

    Empty if no template was being rendered. Jinja gives its code the template's lines.
    """
    frames, trace = [], error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if any(folder in file.parents for folder in folders):
            frames.append((file, trace.tb_lineno))
        trace = trace.tb_next
    if not frames:
        return ""
    outer, inner = frames[0], frames[-1]
    # In the file that was asked for, the innermost line says most: that of a macro of its own, say.
    outer = next(frame for frame in reversed(frames) if frame[0] == outer[0])
    through = f" (by way of {inner[0]}:{inner[1]})" if inner[0] != outer[0] else ""
    return f"{outer[0]}:{outer[1]}{through}{then}"


def _address32(value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value:#x} does not fit the 32 bits of movz and movk")
    return value


def _half(value: int, number: int) -> str:
    """The 16 bits of `value` that a movz or movk with `lsl #16*number` holds."""
    return hex(value >> 16 * number & 0xFFFF)
