"""A cache that machines share: what one built, another need not, whatever becomes of the server.

Each machine is a checkout with a store of its own; the servers are real.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cache.servers import Bucket, Hostile, Nginx, Request, answer, closed_port, deaf_port, nginx, s3
from tests.front.recording import EVERY, NOTHING, Again, Clean, Recorded

pytest_plugins = ["tests.front.cached"]

Behaviour = Callable[[Request, socket.socket, threading.Event], object]
STEPS = ("compile", "runtime", "link", "patch")


@dataclass(frozen=True)
class Shared:
    """A server: its URL, and what of the environment it wants."""

    url: str
    environment: Mapping[str, str]

    def read(self, checkout: Recorded) -> str:
        """Build as everybody does; returns all that was said."""
        return self._build(checkout, "read-only")

    def write(self, checkout: Recorded) -> str:
        """Build as the machine that shares what it makes."""
        return self._build(checkout, "read-write")

    def _build(self, checkout: Recorded, mode: str) -> str:
        remote: dict[str, Any] = {"BUILDSYS_CACHE_REMOTE": self.url, "BUILDSYS_CACHE_MODE": mode, **self.environment}
        process = checkout.start("build", **remote)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out + err


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Nginx]:
    with nginx(tmp_path / "nginx") as server:
        yield server


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3(tmp_path_factory.mktemp("s3")) as make:
        yield make("builds")


@pytest.fixture(params=["nginx", "s3"])
def shared(request: pytest.FixtureRequest) -> Shared:
    if request.param == "s3":
        found: Bucket = request.getfixturevalue("bucket")
        return Shared(found.url, found.environment)
    return Shared(request.getfixturevalue("web").url, {})


def test_a_clean_clone_with_a_warm_server_runs_no_tool_and_gets_the_same_bytes(shared: Shared, again: Again) -> None:
    first, second = again(), again()
    shared.write(first)
    assert first.ran() == EVERY
    said = shared.read(second)
    assert second.ran() == NOTHING
    assert second.made() == first.made()
    assert said.count("fetched from the shared cache") == len(STEPS)
    assert "warning" not in said
    assert "everything is up to date" in shared.read(second)


def test_what_was_fetched_is_in_the_store(shared: Shared, again: Again) -> None:
    first, second = again(), again()
    shared.write(first)
    shared.read(second)
    third = again(second, warm=True)
    assert third.doit("build").succeeded().out.count("restored from the local cache") == len(STEPS)
    assert third.ran() == NOTHING
    assert third.made() == first.made()


def test_who_may_only_read_writes_nothing(web: Nginx, again: Again) -> None:
    Shared(web.url, {}).read(again())
    assert not [request for request in web.requests if request.startswith("PUT")]
    assert list(web.files.rglob("*")) == []


def test_a_remote_in_the_configuration_is_used_and_only_read_from(web: Nginx, again: Again) -> None:
    first, second = again(), again()
    for each in (first, second):
        each.append("pyproject.toml", f'\n[tool.buildsys.cache]\nremote = "{web.url}"\n')
    first.doit("build").succeeded()
    assert list(web.files.rglob("*")) == []
    first.path("build/.done/patch.json").unlink()
    first.doit("build", BUILDSYS_CACHE_MODE="read-write", BUILDSYS_CACHE="off").succeeded()
    assert list(web.files.rglob("*")) == []  # without a store there is nothing to share
    Shared(web.url, {}).write(again())
    assert second.doit("build").succeeded().out.count("fetched from the shared cache") == len(STEPS)


def test_a_poisoned_blob_is_not_served_but_made_anew(web: Nginx, again: Again, clean: Clean) -> None:
    first, second = again(), again()
    Shared(web.url, {}).write(first)
    blobs = [path for path in (web.files / "cas").iterdir() if path.stat().st_size > 1 << 20]
    assert blobs
    for path in blobs:
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents)
    said = Shared(web.url, {}).read(second)
    assert said.count("warning") == 1
    assert "wrong contents" in said
    assert second.ran() == EVERY
    assert second.image == clean(second)


def test_a_blob_that_is_gone_is_a_miss(web: Nginx, again: Again, clean: Clean) -> None:
    first, second = again(), again()
    Shared(web.url, {}).write(first)
    for path in (web.files / "cas").iterdir():
        path.unlink()
    said = Shared(web.url, {}).read(second)
    assert "warning" not in said
    assert second.ran() == EVERY
    assert second.image == clean(second)


def test_a_result_that_names_files_elsewhere_writes_none(web: Nginx, again: Again, clean: Clean) -> None:
    first, second = again(), again()
    Shared(web.url, {}).write(first)
    for path in (web.files / "ac").iterdir():
        result = json.loads(path.read_bytes())
        for output in result.get("outputFiles", ()):
            output["path"] = "../" + output["path"]
        path.write_text(json.dumps(result))
    Shared(web.url, {}).read(second)
    assert not (second.folder.parent / "build").exists()
    assert second.image == clean(second)


def test_a_result_without_its_facts_is_a_miss(web: Nginx, again: Again, clean: Clean) -> None:
    first, second = again(), again()
    Shared(web.url, {}).write(first)
    for path in (web.files / "ac").iterdir():
        result = json.loads(path.read_bytes())
        if result.get("outputFiles"):
            result["stdoutRaw"] = base64.b64encode(b"{}").decode()
            path.write_text(json.dumps(result))
    said = Shared(web.url, {}).read(second)
    assert "sites patched" in said
    assert second.ran() == EVERY
    assert second.image == clean(second)


def test_results_of_one_state_are_not_those_of_another(web: Nginx, again: Again, clean: Clean) -> None:
    first, second = again(), again()
    Shared(web.url, {}).write(first)
    second.append("src/main.go", "\nfunc init() { println() }\n")
    Shared(web.url, {}).read(second)
    assert second.image == clean(second)
    assert second.image != first.image


def refusing(read: bytes, write: bytes) -> Behaviour:
    """A server that has one answer to whoever reads, and one to whoever writes."""
    return lambda request, to, over: to.sendall(write if request.method == "PUT" else read)


REFUSING = {
    "500": refusing(answer(500), answer(500)),
    "full": refusing(answer(404), answer(507)),
    "forbidden": refusing(answer(403), answer(403)),
}


@pytest.mark.parametrize("trouble", ["dead", "deaf", "500", "full", "forbidden"])
def test_a_server_in_trouble_costs_one_warning(trouble: str, again: Again, clean: Clean) -> None:
    checkout = again()
    checkout.append("pyproject.toml", "\n[tool.buildsys.cache]\ntimeout = 1\n")
    if trouble == "dead":
        with closed_port() as port:
            said = Shared(f"http://127.0.0.1:{port}", {}).write(checkout)
    elif trouble == "deaf":
        with deaf_port() as port:
            said = Shared(f"http://127.0.0.1:{port}", {}).write(checkout)
    else:
        with Hostile(REFUSING[trouble]) as server:
            said = Shared(server.url, {}).write(checkout)
    assert said.count("warning") == 1, said
    assert "Traceback" not in said
    assert checkout.image == clean(checkout)
    assert checkout.doit("build").succeeded().out.endswith("everything is up to date\n")


@pytest.mark.parametrize(
    ("url", "told"),
    [("ftp://example.org/x", "ftp"), ("http://user:secret@example.org", "secret"), ("nonsense", "nonsense")],
)
def test_a_url_that_cannot_be_meant_is_one_message(again: Again, url: str, told: str) -> None:
    checkout = again()
    message = checkout.doit("build", BUILDSYS_CACHE_REMOTE=url).refused("BUILDSYS_CACHE_REMOTE")
    assert told == "secret" or told in message
    assert "secret" not in message


def test_several_machines_at_once_share_what_they_make(web: Nginx, again: Again) -> None:
    machines = [again() for _ in range(3)]
    threads = [threading.Thread(target=Shared(web.url, {}).write, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = again()
    Shared(web.url, {}).read(last)
    assert last.ran() == NOTHING
    assert {machine.image for machine in machines} == {last.image}
