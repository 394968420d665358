"""`doit size` as a user has it: tables that add up, what changed since, the picture in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.front.conftest import Checkout, Copies
from tests.front.test_page import Browser, Reader, browser, saved  # noqa: F401  a fixture

GROWN = "package main\n\nvar grown = [512]byte{1, 2, 3}\n\nfunc init() { grown[0]++ }\n"


def number(text: str) -> int:
    return int(text.replace(",", ""))


def table(text: str, head: str) -> Iterator[list[str]]:
    """The rows below the line that begins with `head`, split at two spaces or more."""
    block = re.split(rf"(?m)^ *{head}\b.*\n", text)[1].split("\n\n")[0]
    for line in block.splitlines():
        if not line.startswith("build/"):
            yield re.split(r" {2,}", line.strip())


@pytest.fixture(scope="module")
def shown(reference: Checkout) -> str:
    return reference.doit("size").succeeded().out


def test_each_column_of_packages_adds_up_to_its_last_row(shown: str) -> None:
    *rows, total = table(shown, "code")
    assert total[-1] == "all of it"
    assert any(row[-1] == "runtime" for row in rows)
    for column in range(6):
        assert sum(number(row[column]) for row in rows) == number(total[column])


def test_the_sections_of_each_region_add_up_to_what_is_used(shown: str) -> None:
    used = {row[0]: number(row[1]) for row in table(shown, "region +used")}
    rows = list(table(shown, "region +section"))
    assert used.keys() == {"flash", "ram"}
    for name, size in used.items():
        mine = [row for row in rows if row[0] == name]
        assert number(mine[-1][-1]) == size == sum(number(row[-1]) for row in mine[:-1])


def test_the_share_is_that_of_the_end_of_a_build(shown: str, copies: Copies) -> None:
    closing = copies().doit("build").succeeded().out.splitlines()[-2]
    for name, used, _, share, _ in table(shown, "region +used"):
        assert re.search(rf"\b{name} {number(used) / 1024:.0f} KiB of \d+ MiB, {share}", closing)


def test_one_package_is_shown_with_its_symbols_and_the_rest_in_a_row(reference: Checkout) -> None:
    done = reference.doit("size", "kernel/*", "--all").succeeded()
    *rows, rest, total = table(done.out, "bytes")
    assert {row[2].split("/")[0] for row in rows} == {"kernel"}
    assert re.fullmatch(r"\(\d+ more\)", rest[-1])
    assert sum(number(row[0]) for row in (*rows, rest)) == number(total[0])


def test_json_is_all_of_stdout_and_adds_up(reference: Checkout) -> None:
    done = reference.doit("size", "--json").succeeded()
    found = json.loads(done.out)
    for region in found["regions"]:
        inside = [each for each in found["pieces"] if each["region"] == region["name"]]
        assert sum(each["size"] for each in inside) == region["high"] - region["low"]
        assert sum(each["in"].get(region["name"], 0) for each in found["packages"]) == region["used"]
    assert sum(each["size"] for each in found["file"]) == len(reference.image)


def test_what_grew_since_the_build_before_has_a_plus(checkout: Checkout) -> None:
    checkout.path("src/grown.go").write_text(GROWN)
    checkout.doit("build").succeeded()
    done = checkout.doit("size", "--compare", "last").succeeded()
    # 512 in flash, from where boot code copies them to 512 in RAM.
    assert re.search(r"^ *\+1,024 +0 +1,024 +main\.grown \(new\)$", done.out, re.MULTILINE)
    for head in ("change +before +now +region", "change +before +now +package", "change +before +now +symbol"):
        *rows, total = table(done.out, head)
        assert number(total[0]) == number(total[2]) - number(total[1])
        for column in range(3):
            assert sum(number(row[column]) for row in rows) == number(total[column])
    checkout.path("src/grown.go").unlink()
    back = checkout.doit("size", "--compare", "last", "-r", "quiet").succeeded()
    assert re.search(r"^ *-1,024 +1,024 +0 +main\.grown \(gone\)$", back.out, re.MULTILINE)


def test_saved_sizes_and_a_git_revision_are_compared_with(checkout: Checkout) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *arguments], cwd=checkout.folder, check=True, capture_output=True)

    git("init", "-q")
    git("add", "src", "pyproject.toml", "dodo.py")
    git("commit", "-q", "-m", "one")
    checkout.doit("size", "--save", "small").succeeded()
    checkout.path("src/grown.go").write_text(GROWN)
    saved_before = checkout.doit("size", "--compare", "small", "--json").succeeded()
    revision = checkout.doit("size", "--compare", "HEAD", "--json").succeeded()
    told = [json.loads(each.out)["compared with"] for each in (saved_before, revision)]
    assert [each.pop("what") for each in told] == ["small", "HEAD"]
    assert told[0] == told[1]
    symbols = {each["symbol"]: each["change"] for each in told[0]["symbols"] if each["section"] == ".data"}
    assert symbols["main.grown"] > 0
    checkout.doit("size", "--compare", "nosuch").refused("nosuch", "saved: small")


def test_there_is_nothing_to_compare_the_first_build_with(fresh: Checkout) -> None:
    fresh.doit("size", "--compare", "last").refused("one build only", "--compare HEAD")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "packages"), ("packages", "did you mean `package`?")),
        (("--save", "/nonexistent/x.json"), ("/nonexistent",)),
        (("--bye", "x"), ("--bye",)),
    ],
)
def test_mistakes_are_told(reference: Checkout, options: tuple[str, ...], words: tuple[str, ...]) -> None:
    if options[0] == "--save":
        options = ("--save", str(reference.path("dodo.py") / "x.json"))
        words = ("dodo.py",)
    reference.doit("size", *options).refused(*words)


# ---- the picture ----

MEASURE = """
<script>
{
const areas = [...document.querySelectorAll('#map > *')].map(tile => {
  const r = tile.getBoundingClientRect();
  const {bytes, depth} = tile.dataset;
  return {title: tile.title, bytes: +bytes, depth: +depth, x: r.x, y: r.y, w: r.width, h: r.height};
});
const zoomed = [...document.querySelectorAll('#map [role=button]')].find(tile => tile.title.startsWith('flash:'));
zoomed.click();
const inside = [...document.querySelectorAll('#map > *')].map(tile => tile.title);
const way = [...document.querySelectorAll('#path button')].map(button => button.textContent);
document.querySelector('#path button').dispatchEvent(new MouseEvent('click'));
const back = document.querySelectorAll('#map > *').length;
document.documentElement.dataset.measured = JSON.stringify({areas, inside, way, back});
console.log('measured');
}
</script>
"""


@pytest.fixture(scope="module")
def picture(reference: Checkout, shown: str) -> str:
    return reference.path("build/size.html").read_text("utf-8")


@pytest.fixture
def seen(picture: str, browser: Browser, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    text = picture.replace("</body>", MEASURE + "</body>")
    done = browser("--dump-dom", "--window-size=1200,2000", saved(tmp_path, text, "size.html"))
    assert "measured" in done.stderr
    (attribute,) = Reader(done.stdout).values("data-measured")
    found: dict[str, Any] = json.loads(attribute)
    return found


def test_areas_are_as_large_as_their_bytes_are_many(seen: dict[str, Any], shown: str) -> None:
    used = {row[0]: number(row[1]) for row in table(shown, "region +used")}
    regions = {each["title"].split(":")[0]: each for each in seen["areas"] if each["depth"] == 1}
    assert {name: each["bytes"] for name, each in regions.items()} == used
    per_byte = [each["w"] * each["h"] / each["bytes"] for each in regions.values()]
    assert per_byte[0] == pytest.approx(per_byte[1], rel=0.01)
    assert len(seen["areas"]) > 500


def test_no_area_lies_on_another_of_its_kind(seen: dict[str, Any]) -> None:
    regions = [each for each in seen["areas"] if each["depth"] == 1]
    first, second = regions
    assert first["x"] + first["w"] <= second["x"] + 0.1 or first["y"] + first["h"] <= second["y"] + 0.1
    for each in seen["areas"]:
        (around,) = [r for r in regions if each["title"].startswith(r["title"].split(":")[0])]
        assert around["x"] - 0.1 <= each["x"]
        assert each["x"] + each["w"] <= around["x"] + around["w"] + 0.1
        assert around["y"] - 0.1 <= each["y"]
        assert each["y"] + each["h"] <= around["y"] + around["h"] + 0.1


def test_one_can_go_into_an_area_and_back(seen: dict[str, Any]) -> None:
    assert seen["inside"]
    assert all(title.startswith("flash / ") for title in seen["inside"])
    assert [each.split(" ")[0] for each in seen["way"]] == ["build/kernel.elf", "flash"]
    assert seen["back"] == len(seen["areas"])


def test_the_page_asks_nobody_and_its_tables_say_what_the_terminal_says(picture: str, shown: str) -> None:
    assert not re.findall(r"(?:src|href)=\"(?!data:)|@import|url\(", picture)
    said = re.sub(r"\s+", " ", Reader(picture).text)
    for row in table(shown, "code"):
        if not row[-1].startswith("("):
            assert " ".join(row).replace(" ", "") in said.replace(" ", "")


def test_names_that_look_like_markup_stay_names() -> None:
    from buildsys.front.size_page import page
    from buildsys.sizes.account import CODE, Account, Piece, Room

    nasty = "</script><script>alert(1)</script>"
    piece = Piece("flash", ".text", CODE, nasty, nasty, 0, 8)
    text = page(Account(nasty, nasty, (Room("flash", 0, 8, 8),), (piece,), ((nasty, 8),)))
    assert nasty not in text
    assert len(re.findall("</script>", text)) == 2
