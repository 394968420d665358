"""The page of the proof, read in a real browser: what it says, that it holds together, that it asks nobody."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from html import escape
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.config import board as boards
from buildsys.front import page as pages
from buildsys.front.drawings import Mark, Piece, fit, memory, way
from buildsys.front.flow import flow
from buildsys.front.page import page
from buildsys.front.quantity import amount
from buildsys.front.steps import Steps
from buildsys.front.verify import Line, check, verify
from buildsys.go.runtime import FLAG
from buildsys.proof.case import Case
from buildsys.proof.claim import Claim, Result, Verdict
from buildsys.proof.claims import CLAIMS, memory_map, symbols
from buildsys.proof.claims.memory_map import Extent
from buildsys.proof.observation import EMBEDDED, HEAD, QEMU

CHROMIUM = "chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DARK = "--blink-settings=preferredColorScheme=0"
DESKTOP, NARROW = 1280, 390
HEADINGS = (
    "Write barrier control: the proof",
    "The claims",
    "The way of one store",
    "Symbols and calls",
    "Memory of qemu-virt",
    "Runs",
    "Evidence",
    "Check it yourself",
)
BOARD = boards.load("qemu-virt", "the tests")

# Appended to a copy of the page: what only a browser knows, as an attribute of the outermost document.
# Every text must be readable (WCAG 2.1, 1.4.3: 4.5 to 1), in its drawing, and on no other text.
MEASURE = """
<script>
const problems = [];
const box = element => element.getBoundingClientRect();
const said = element => element.textContent.trim().slice(0, 60);
const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const luminance = colour => channels(colour).slice(0, 3).map(c => c / 255)
  .map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
const opaque = colour => channels(colour).length === 3;
function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (opaque(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
}
function under(text) {
  const place = box(text), x = place.x + place.width / 2, y = place.y + place.height / 2;
  let found = ground(text.ownerSVGElement);
  for (const shape of text.ownerSVGElement.querySelectorAll('rect, circle, path.bar')) {
    const r = box(shape), fill = getComputedStyle(shape).fill;
    if (r.x <= x && x <= r.right && r.y <= y && y <= r.bottom && opaque(fill)) found = fill;
  }
  return found;
}
let texts = 0;
for (const element of document.body.querySelectorAll('*')) {
  if (element.closest('title, desc, defs, script, .hidden')) continue;
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
  texts++;
  const svg = element.closest('svg'), style = getComputedStyle(element);
  const pair = [svg ? style.fill : style.color, svg ? under(element.closest('text')) : ground(element)].map(luminance);
  const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  if (ratio < 4.5) problems.push(`contrast ${ratio.toFixed(2)}: ${said(element)}`);
}
const drawings = [...document.querySelectorAll('svg')].map(svg => {
  const outer = box(svg), inside = [...svg.querySelectorAll('text')];
  for (const text of inside) {
    const r = box(text);
    if (r.x < outer.x - 1 || r.right > outer.right + 1 || r.y < outer.y - 1 || r.bottom > outer.bottom + 1)
      problems.push(`outside its drawing: ${said(text)}`);
  }
  const rects = inside.map(box);
  rects.forEach((a, i) => rects.slice(i + 1).forEach((b, j) => {
    const across = Math.min(a.right, b.right) - Math.max(a.x, b.x);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.y, b.y);
    if (across > 1 && down > .4 * Math.min(a.height, b.height))
      problems.push(`on one another: ${said(inside[i])} / ${said(inside[i + 1 + j])}`);
  }));
  return [outer.width, outer.height];
});
for (const holder of document.querySelectorAll('.scroll > *, pre, dd, li, p'))
  if (!holder.closest('.scroll') && holder.scrollWidth > holder.clientWidth + 1)
    problems.push(`wider than its place: ${said(holder)}`);
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) problems.push(`${page.scrollWidth} wide in ${page.clientWidth}`);
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
console.log('measured');
top.document.documentElement.dataset.measured =
  JSON.stringify({drawings, texts, problems, dark, width: page.clientWidth});
</script>
"""


class Reader(HTMLParser):
    """What a page consists of; fails on tags that do not match."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.headings: list[tuple[int, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data
        if self._open and re.fullmatch("h[1-6]", next((t for t in self._open if re.fullmatch("h[1-6]", t)), "")):
            level, said = self.headings[-1]
            self.headings[-1] = (level, said + data)

    def values(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [value for _, each, value in self.attributes if each == name]


@pytest.fixture(scope="module")
def lines(case: Case) -> list[Line]:
    """Every claim's verdict, and a run seen on each emulator whether or not a claim needed it."""
    assert case.embedded.outcome.exit_code == 0
    _ = case.qemu
    return check(case, list(enumerate(CLAIMS, 1)))


@pytest.fixture(scope="module")
def text(built: Steps, case: Case, lines: list[Line]) -> str:
    return page(built, case, lines)


Browser = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Runs Chromium with a profile of its own."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed: apt-get install --no-install-recommends chromium")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *FLAGS, profile, "--enable-logging=stderr", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)

    return run


def saved(folder: Path, text: str, name: str = "proof.html") -> str:
    """The page as a file; returns its address."""
    (folder / name).write_text(text, "utf-8")
    return (folder / name).as_uri()


def measured(browser: Browser, folder: Path, text: str, width: int, *arguments: str) -> dict[str, Any]:
    """What MEASURE found, in a frame as wide as a screen may be: a window has a least width."""
    inner = escape(text.replace("</body>", MEASURE + "</body>"))
    frame = f'<iframe style="border: 0" width="{width}" height="900" srcdoc="{inner}"></iframe>'
    done = browser("--dump-dom", *arguments, saved(folder, f"<!DOCTYPE html><body>{frame}</body>", "framed.html"))
    assert "CONSOLE" in done.stderr, "what scripts and the browser say to the console is not seen"
    (attribute,) = (value for value in Reader(done.stdout).values("data-measured"))
    found: dict[str, Any] = json.loads(attribute)
    return found


def with_runs(case: Case, **changes: Any) -> Case:
    """`case` with some of what it has found out replaced."""
    changed = dataclasses.replace(case)
    vars(changed).update(vars(case) | changes)
    return changed


def invented(name: str, result: Result, **more: Any) -> Line:
    """A claim no one knows, and its verdict."""
    given = Verdict(result, more.pop("figure", "seen"), **more)
    return Line(99, Claim(name, f"a claim called {name}", lambda _: given), given, 0.1)


def test_a_browser_shows_headings_claims_and_the_addresses_of_this_build(
    text: str, case: Case, lines: list[Line], browser: Browser, tmp_path: Path
) -> None:
    shown = browser("--dump-dom", saved(tmp_path, text))
    assert "CONSOLE" not in shown.stderr
    read = Reader(shown.stdout)
    headings = [said for _, said in read.headings]
    assert [each for each in headings if each in HEADINGS] == list(HEADINGS)
    assert all(deeper <= level + 1 for (level, _), (deeper, _) in pairwise(read.headings))
    assert lines
    for line in lines:
        title = line.claim.title[0].upper() + line.claim.title[1:]
        assert f"{line.number}. {title}" in headings
        assert line.verdict.figure in read.text
    addresses = case.elf.symbols.addresses(FLAG, HEAD, case.entry, "__heap_low", "__stack_high")
    assert len(addresses) == 5
    for address in addresses.values():
        assert f"{address:#x}" in read.text
    for pair in case.barriers.values():
        assert pair.old is not None
        assert pair.new is not None
        assert f"{pair.old.value:016x}t{pair.name}" in read.text
        assert f"{pair.new.value:016x}T{pair.name}" in read.text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, NARROW])
def test_it_can_be_read_on_any_screen(text: str, browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    found = measured(browser, tmp_path, text, width, *([DARK] if dark else []))
    assert (found["width"], found["dark"]) == (width, dark)
    assert found["problems"] == []
    assert found["texts"] > 300
    assert len(found["drawings"]) == 2
    assert all(across > 300 and down > 300 for across, down in found["drawings"])


def test_the_measure_sees_what_is_unreadable(text: str, browser: Browser, tmp_path: Path) -> None:
    worse = text.replace("--quiet: #59616b", "--quiet: #bbbbbb").replace('y="20', 'y="-20', 1)
    worse = worse.replace("</main>", '<p style="min-width: 3000px">wide</p></main>')
    found = "\n".join(measured(browser, tmp_path, worse, DESKTOP)["problems"])
    assert re.search(r"contrast 1\.\d+", found)
    assert "outside its drawing" in found
    assert f" wide in {DESKTOP}" in found


@pytest.mark.parametrize("width", [DESKTOP, 500])
def test_a_picture_of_it_is_not_blank(text: str, browser: Browser, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "picture.png"
    browser(f"--window-size={width},2000", f"--screenshot={picture}", saved(tmp_path, text))
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (width, 2000)  # PNG: IHDR
    assert len(data) > 50_000  # of one colour it has a few thousand


def test_it_prints(text: str, browser: Browser, tmp_path: Path) -> None:
    paper = tmp_path / "proof.pdf"
    browser("--no-pdf-header-footer", f"--print-to-pdf={paper}", saved(tmp_path, text))
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-")
    sheets = re.findall(rb"/Type\s*/Page\b", data)
    assert 5 <= len(sheets) <= 14  # more: something does not fit, and breaks over and over
    assert re.search(rb"/MediaBox\s*\[0 0 59[45][\d.]* 84[12]", data)  # A4 in points


def test_it_asks_nobody(text: str) -> None:
    read = Reader(text)
    for name in ("src", "href", "srcset", "poster", "action", "data", "background", "xlink:href"):
        for value in read.values(name):
            assert value.startswith("#") or value == "data:,", value
    assert {"script", "iframe", "object", "embed", "form", "img"}.isdisjoint(tag for tag, _, _ in read.attributes)
    assert set(re.findall(r"url\((.*?)\)", text)) <= {"#hatch", "#arrow", "#map-arrow"}
    assert "@import" not in text


def test_every_link_and_label_leads_somewhere(text: str) -> None:
    read = Reader(text)
    names = read.values("id")
    assert len(names) == len(set(names))
    wanted = [value[1:] for value in read.values("href") if value.startswith("#")]
    wanted += [
        name for key in ("aria-labelledby", "aria-describedby") for value in read.values(key) for name in value.split()
    ]
    assert len(wanted) > 20
    assert set(wanted) <= set(names)
    assert all(each in names for each in re.findall(r"url\(#(.*?)\)", text))


def test_what_claims_say_stays_text(built: Steps, case: Case) -> None:
    line = invented(
        "<i>&\"'",
        Result.FAILED,
        figure="</pre><script>alert(1)</script>",
        details=("<b>bold</b> \x1b[31m red \u202e backwards \ud800", "a\tb"),
        advice="run `<doit>` & see",
    )
    text = page(built, case, [line])
    assert "<script" not in text
    assert "<b>" not in text
    assert "<code>&lt;doit&gt;</code>" in text
    assert "␛[31m red \ufffd backwards \ufffd" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert text.encode()


def test_a_failed_claim_is_said_first_and_casts_doubt_on_what_rests_on_it(built: Steps, case: Case) -> None:
    failed = Verdict(Result.FAILED, "no", {}, ("no such call",), "do `this`")
    line = Line(3, Claim("call-sites", "every call goes to ours", lambda _: failed), failed, 0.0)
    fine = invented("fine", Result.PASSED)
    said = Reader(page(built, case, [line, fine])).text
    assert "1 of 2 claims failed: do not rely on this image" in said
    assert said.count("Do not rely on what is shown here") == 2
    assert "What to do: do this" in said
    assert "no such call" in said
    assert "the stores arrive" not in said.split("The claims")[0]


def test_a_claim_that_was_not_run_is_not_passed(built: Steps, case: Case) -> None:
    said = Reader(
        page(built, case, [invented("a", Result.PASSED), invented("b", Result.NOT_RUN, advice="install it")])
    ).text
    assert "1 of 2 claims hold, 1 could not be run" in said
    assert "– not run" in said
    assert "What to do: install it" in said
    assert "All 2 claims hold" not in said


def test_an_unknown_claim_shows_its_evidence(built: Steps, case: Case) -> None:
    said = Reader(
        page(built, case, [invented("b", Result.PASSED, evidence={"words": [1, {"a": None}], "name": "x"})])
    ).text
    assert 'words: [1, {"a": null}]\nname: x' in said


def test_thousands_of_lines_are_cut_short(built: Steps, case: Case) -> None:
    details = tuple(f"line {number}" for number in range(5000))
    said = Reader(page(built, case, [invented("long", Result.FAILED, details=details)])).text
    assert f"line {pages.LONGEST - 1}\n" in said
    assert f"and {5000 - pages.LONGEST} more lines: doit verify --claim long -v" in said


def test_without_qemu_it_says_so(built: Steps, case: Case, lines: Sequence[Line]) -> None:
    said = Reader(page(built, with_runs(case, qemu=None), lines)).text
    assert f"{QEMU}: it is not installed: not run" in said
    assert f"read from outside, on {EMBEDDED}" in said


def test_nothing_is_run_for_the_page(built: Steps, case: Case) -> None:
    fresh = dataclasses.replace(case)
    said = Reader(page(built, fresh, [invented("a", Result.PASSED)])).text
    assert said.count("no claim saw a run on it") == 2
    assert not {"embedded", "qemu", "followed"} & vars(fresh).keys()


def test_no_claims_at_all_prove_nothing(built: Steps, case: Case) -> None:
    said = Reader(page(built, case, [])).text
    assert "No claim was checked" in said
    assert "claims hold" not in said


def test_a_kernel_without_the_list_head_shows_another_store(
    built: Steps, case: Case, tmp_path: Path, browser: Browser
) -> None:
    other = HEAD.replace("Head", "Tail")
    image = tmp_path / "other.elf"
    data = case.elf.data.replace(f"{HEAD}\0".encode(), f"{other}\0".encode())
    assert data != case.elf.data
    image.write_bytes(data)
    renamed = dataclasses.replace(case, image=image)
    assert HEAD not in renamed.elf.symbols.addresses(HEAD)
    text = page(built, renamed, [invented("a", Result.PASSED)])
    said = Reader(text).text
    assert HEAD not in said
    assert "Back in the compiler’s code" in said
    assert "In memory, when the run has ended" not in said
    assert measured(browser, tmp_path, text, DESKTOP)["problems"] == []


def test_where_the_barrier_stores_the_compilers_own_store_is_the_other_way(
    built: Steps, case: Case, lines: Sequence[Line], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, browser: Browser
) -> None:
    evidence = {line.claim.name: line.verdict.evidence for line in lines}
    found = flow(case, evidence.get("barriers", {}).get("shown"), [case.embedded])
    storing = dataclasses.replace(found, stores=True, back=())
    drawn = way(storing)
    assert [box.kind for box in drawn.boxes][-1] == "instead"
    last = drawn.boxes[-1]
    assert last.y < drawn.skip[1] < last.y + last.height
    monkeypatch.setattr(pages, "flow", lambda *_: storing)
    text = page(built, case, lines)
    assert "Were the flag clear" in Reader(text).text
    assert measured(browser, tmp_path, text, DESKTOP)["problems"] == []


def test_what_lies_on_something_else_is_drawn_beside_it(
    built: Steps, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, browser: Browser
) -> None:
    intruder = Extent("an intruder with a rather long name", BOARD.bss, BOARD.bss + (1 << 20), "stored")
    stray = Extent("a stray", REGIONS[-1].end + (1 << 20), REGIONS[-1].end + (2 << 20), "stored")
    monkeypatch.setattr(pages, "extents", lambda case: [*memory_map.extents(case), intruder, stray])
    text = page(built, case, [])
    assert "in no region of the board" in Reader(text).text
    assert text.count(" clash") > 4
    assert measured(browser, tmp_path, text, DESKTOP)["problems"] == []


@pytest.mark.parametrize("contents", [b"", b"\x7fELF and no more", b"text"])
def test_an_image_that_is_none_still_gets_a_page(built: Steps, case: Case, tmp_path: Path, contents: bytes) -> None:
    junk = tmp_path / "junk.elf"
    junk.write_bytes(contents)
    broken = dataclasses.replace(case, image=junk)
    said = Reader(page(built, broken, check(broken, [(1, symbols.CLAIM)]))).text
    assert "1 of 1 claims failed" in said
    assert said.count("Cannot be shown: ") == 4


def test_one_build_gives_one_page(built: Steps, case: Case, lines: Sequence[Line], text: str) -> None:
    later = [dataclasses.replace(line, seconds=line.seconds + 1) for line in lines]
    assert page(built, case, later) == text


def test_verify_writes_it_when_every_claim_was_asked_for(
    built: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("buildsys.proof.claims.CLAIMS", (symbols.CLAIM,))
    written = built.project.build / "proof.html"
    written.unlink(missing_ok=True)
    assert verify(built, symbols.CLAIM.name, verbose=False, strict=False) is None
    assert not written.exists()
    assert verify(built, "", verbose=False, strict=False) is None
    assert "All 1 claims hold" in Reader(written.read_text("utf-8")).text
    assert not list(built.project.build.glob("*.partial"))


REGIONS = sorted(BOARD.regions, key=lambda region: region.origin)
extents = st.lists(
    st.tuples(
        st.one_of(
            *(st.integers(region.origin, region.end - 1) for region in REGIONS),
            st.integers(REGIONS[-1].end, REGIONS[-1].end * 2),
        ),
        st.integers(0, 40).flatmap(lambda bits: st.integers(1, 1 << bits)),
    ),
    max_size=8,
)


@given(extents, st.lists(st.integers(0, REGIONS[-1].end * 2), max_size=5))
def test_nothing_in_the_memory_map_covers_anything_else(places: list[tuple[int, int]], marks: list[int]) -> None:
    pieces = [
        Piece(Extent(f"piece {at}", low, low + count, "section"), "data") for at, (low, count) in enumerate(places)
    ]
    drawn = memory(BOARD, pieces, [Mark(mark, "a mark") for mark in marks])
    blocks = [block for frame in drawn.frames for block in frame.blocks]
    assert {block.piece.extent.name for block in blocks} == {piece.extent.name for piece in pieces}
    for block in blocks:
        assert block.height >= 30
        assert block.width > 20
        assert block.name
    for one, other in combinations(blocks, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert across < 0.01 or down < 0.01
    for frame in drawn.frames:
        assert all(low[0] + 13 <= high[0] and low[1] < high[1] for low, high in pairwise(frame.bounds))
        assert frame.y + frame.height <= drawn.height
    assert all(one.y + 14 <= other.y for one, other in pairwise(drawn.callouts))


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (1 << 45, "32 TiB")],
)
def test_sizes_are_said_as_people_say_them(count: int, said: str) -> None:
    assert amount(count) == said


@given(st.text("abcdefg", max_size=40), st.integers(3, 30))
def test_a_text_that_is_cut_keeps_both_its_ends(text: str, count: int) -> None:
    cut = fit(text, count)
    assert len(cut) <= count
    if cut != text:
        head, tail = cut.split("…")
        assert head
        assert text.startswith(head)
        assert text.endswith(tail)
