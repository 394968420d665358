"""What an action made goes through JSON unchanged, and what others put there cannot do harm."""

from __future__ import annotations

import json
import string
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildsys.cache.result import Digest, Output, Result

SOUND = Result(
    (Output("build/kernel.elf", Digest("0" * 63 + "a", 5), False), Output("build/tool", Digest("b" * 64, 0), True)),
    {"sites": 371, "functions": ["a", "b"]},
    "somewhere",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:06.5Z",
)

names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12)
paths = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)
digests = st.builds(Digest, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**48))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
times = st.sampled_from(["", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901Z"])
results = st.builds(
    Result,
    st.lists(st.builds(Output, paths, digests, st.booleans()), max_size=4, unique_by=lambda output: output.path).map(
        tuple
    ),
    st.dictionaries(st.text(), values, max_size=4),
    st.text(),
    times,
    times,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters), inner, max_size=3),
    max_leaves=10,
)


@given(results)
def test_a_result_is_read_as_it_was_written(result: Result) -> None:
    assert Result.from_json(result.to_json()) == result


def _turned_over(document: Any) -> Any:
    """The same with the keys of every object in the opposite order."""
    if isinstance(document, dict):
        return {key: _turned_over(value) for key, value in reversed(document.items())}
    return [_turned_over(each) for each in document] if isinstance(document, list) else document


@given(results)
def test_a_server_may_write_it_anew_in_its_own_order_and_layout(result: Result) -> None:
    document = json.loads(result.to_json())
    anew = json.dumps(_turned_over(document), indent=3, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert anew != result.to_json()
    assert Result.from_json(anew) == result


@given(results)
def test_nothing_that_protocol_buffers_could_not_read_is_written(result: Result) -> None:
    document = json.loads(result.to_json())
    assert set(document) == {"outputFiles", "stdoutRaw", "executionMetadata"}
    assert "" not in document["executionMetadata"].values()
    for output in document["outputFiles"]:
        assert isinstance(output["digest"]["sizeBytes"], str)


@given(st.binary() | documents.map(lambda document: json.dumps(document).encode()))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no result of an action"):
        Result.from_json(data)


@given(results, st.data())
def test_a_result_with_one_part_exchanged_is_a_result_or_a_value_error(result: Result, data: st.DataObject) -> None:
    document = json.loads(result.to_json())
    part = data.draw(st.sampled_from(["outputFiles", "stdoutRaw", "executionMetadata", "exitCode"]))
    document[part] = data.draw(documents)
    try:
        read = Result.from_json(json.dumps(document).encode())
    except ValueError:
        return
    assert Result.from_json(read.to_json()) == read


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b'{"outputFiles":' + b"[" * 100_000])
def test_depth_without_end_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no result"):
        Result.from_json(data)


def _with(**changes: Any) -> bytes:
    """SOUND with changes to its first output; `hash` and `sizeBytes` are in its digest."""
    document = json.loads(SOUND.to_json())
    output = document["outputFiles"][0]
    for key, value in changes.items():
        (output["digest"] if key in ("hash", "sizeBytes") else output)[key] = value
    return json.dumps(document).encode()


def test_the_sound_one_is_read() -> None:
    assert Result.from_json(_with()) == SOUND


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../outside",
        "build/../../outside",
        "build/..",
        "./build",
        "build//kernel",
        "build/",
        "..\\outside",
        "C:\\x",
        "build/\0",
        "build/\x1b[2Jkernel",
        "build/one\nline",
        "build/\ud800",
        "a/" * 3000 + "a",
        None,
        7,
        ["build"],
    ],
)
def test_a_hostile_path_is_refused(path: object) -> None:
    with pytest.raises(ValueError, match=r"path|surrogates"):
        Result.from_json(_with(path=path))


@pytest.mark.parametrize(
    "name", ["", "A" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "0" * 63 + "\n", "٣" * 64, None, 5]
)
def test_what_is_no_sha256_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="digest"):
        Result.from_json(_with(hash=name))


@pytest.mark.parametrize("size", [-1, "-1", "", "1_0", " 1", "٣", 1.5, 1e300, True, None, [], "9" * 30, "9" * 9999])
def test_what_is_no_size_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="digest"):
        Result.from_json(_with(sizeBytes=size))


@pytest.mark.parametrize("size", [5, "5"])
def test_a_size_may_be_a_number_or_a_string(size: object) -> None:
    assert Result.from_json(_with(sizeBytes=size)) == SOUND


def test_a_size_of_zero_may_be_left_out() -> None:
    document = json.loads(SOUND.to_json())
    del document["outputFiles"][1]["digest"]["sizeBytes"]
    assert Result.from_json(json.dumps(document).encode()) == SOUND


def test_two_outputs_with_one_path_are_refused() -> None:
    document = json.loads(SOUND.to_json())
    document["outputFiles"][1]["path"] = document["outputFiles"][0]["path"]
    with pytest.raises(ValueError, match="one path"):
        Result.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("facts", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_facts_that_are_none_are_refused(facts: bytes) -> None:
    document = {**json.loads(SOUND.to_json()), "stdoutRaw": b64encode(facts).decode()}
    with pytest.raises(ValueError, match="no result"):
        Result.from_json(json.dumps(document).encode())


def test_an_action_that_failed_has_no_result() -> None:
    document = {**json.loads(SOUND.to_json()), "exitCode": 1}
    with pytest.raises(ValueError, match="succeeded"):
        Result.from_json(json.dumps(document).encode())
