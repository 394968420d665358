"""What a shared cache has is used if it is right; whatever else its server does costs one sentence."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildsys.cache.remote import LARGEST_BLOB, LARGEST_RESULT, Remote
from buildsys.cache.result import Digest, Output, Result
from buildsys.errors import UserError

from . import servers
from .servers import CLOSE, Bucket, Hostile, Nginx, Request, answer

# Seconds. PATIENCE is for servers that answer: more than any machine needs. SHORT is for those that never do.
PATIENCE, SHORT = 60.0, 0.4
SECRET = "s3cr3t-that-nobody-may-see"
KEY = "ab" * 32


def digest_of(contents: bytes) -> Digest:
    return Digest(hashlib.sha256(contents).hexdigest(), len(contents))


IMAGE, LISTING = os.urandom(3_000_000), b"one symbol a line\n" * 100
RESULT = Result(
    (Output("build/kernel.elf", digest_of(IMAGE), True), Output("build/list", digest_of(LISTING), False)),
    {"sites": 371},
    "somewhere",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:06Z",
)


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without credentials."""
    for name in tuple(os.environ):
        if name.startswith(("AWS_", "BUILDSYS_REMOTE_")) or name in ("NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def made(tmp_path: Path) -> dict[Digest, Path]:
    """What an action made: its outputs as files."""
    files = {digest_of(contents): tmp_path / f"made{number}" for number, contents in enumerate((IMAGE, LISTING))}
    for contents, path in zip((IMAGE, LISTING), files.values(), strict=True):
        path.write_bytes(contents)
    return files


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with servers.nginx(tmp_path / "nginx") as running:
        yield running


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Bucket]]:
    with servers.s3(tmp_path_factory.mktemp("s3")) as new:
        yield new


@pytest.fixture
def bucket(s3: Callable[[str], Bucket], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of its own for each test, and its keys in the environment."""
    made = s3("b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20])
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def remote(url: str, *, writes: bool = True, timeout: float = PATIENCE) -> Remote:
    return Remote(url, writes=writes, timeout=timeout)


def fetched(cache: Remote, contents: bytes, folder: Path) -> bytes | None:
    """What the cache gives for `contents`; nothing is in the folder if it gives nothing."""
    folder.mkdir(exist_ok=True)
    into = folder / "fetched"
    if cache.blob(digest_of(contents), into):
        return into.read_bytes()
    assert list(folder.iterdir()) == []
    return None


def at_once(call: Callable[[], object]) -> object:
    """What `call` returns; a failure, not a hang, if it does not return."""
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert got, "it hangs, or raised"
    return got[0]


def said(cache: Remote, *words: str) -> None:
    """One sentence is told, and it holds `words`."""
    assert cache.trouble.startswith("the shared cache ")
    assert "\n" not in cache.trouble
    assert SECRET not in cache.trouble
    for word in words:
        assert word in cache.trouble


# What real servers do


@pytest.mark.parametrize("prefix", ["", "/", "/team", "/team/"])
def test_what_one_machine_offers_another_gets_from_nginx(
    server: Nginx, made: dict[Digest, Path], tmp_path: Path, prefix: str
) -> None:
    assert remote(server.url + prefix).offer(KEY, RESULT.to_json(), made)
    reader = remote(server.url + prefix, writes=False)
    found = reader.result(KEY)
    assert found is not None
    assert Result.from_json(found) == RESULT
    assert fetched(reader, IMAGE, tmp_path / "image") == IMAGE
    assert fetched(reader, LISTING, tmp_path / "listing") == LISTING
    assert reader.trouble == ""
    stored = {path.relative_to(server.files).as_posix() for path in server.files.rglob("*") if path.is_file()}
    folder = prefix.strip("/") + "/" if prefix.strip("/") else ""
    assert stored == {f"{folder}ac/{KEY}", *(f"{folder}cas/{digest.hash}" for digest in made)}


@pytest.mark.parametrize("prefix", ["", "/team", "/a_team/50%/x~y+z"])
def test_what_one_machine_offers_another_gets_from_s3(
    bucket: Bucket, made: dict[Digest, Path], tmp_path: Path, prefix: str
) -> None:
    assert remote(bucket.url + prefix).offer(KEY, RESULT.to_json(), made)
    reader = remote(bucket.url + prefix, writes=False)
    found = reader.result(KEY)
    assert found is not None
    assert Result.from_json(found) == RESULT
    assert fetched(reader, IMAGE, tmp_path / "image") == IMAGE
    assert reader.trouble == ""
    folder = prefix.strip("/") + "/" if prefix else ""
    assert bucket.keys() == {f"{folder}ac/{KEY}", *(f"{folder}cas/{digest.hash}" for digest in made)}
    assert bucket.kind(f"{folder}ac/{KEY}") == "application/json"


def test_what_is_not_there_is_a_miss_and_no_trouble(server: Nginx, bucket: Bucket, tmp_path: Path) -> None:
    for url in (server.url, bucket.url):
        cache = remote(url)
        assert cache.result(KEY) is None
        assert fetched(cache, IMAGE, tmp_path / "image") is None
        assert cache.trouble == ""


def test_contents_that_are_missing_are_a_miss_and_no_trouble(
    server: Nginx, made: dict[Digest, Path], tmp_path: Path
) -> None:
    cache = remote(server.url)
    assert cache.offer(KEY, RESULT.to_json(), made)
    (server.files / "cas" / digest_of(IMAGE).hash).unlink()
    assert cache.result(KEY) is not None
    assert fetched(cache, IMAGE, tmp_path / "image") is None
    assert fetched(cache, LISTING, tmp_path / "listing") == LISTING
    assert cache.trouble == ""


def test_contents_of_no_bytes_are_contents(server: Nginx, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    cache = remote(server.url)
    assert fetched(cache, b"", tmp_path / "before") is None
    assert cache.offer(KEY, Result((), {}).to_json(), {digest_of(b""): tmp_path / "empty"})
    assert fetched(cache, b"", tmp_path / "after") == b""


def test_the_contents_go_first_and_the_result_last_and_nothing_twice(server: Nginx, made: dict[Digest, Path]) -> None:
    assert remote(server.url).offer(KEY, RESULT.to_json(), made)
    assert remote(server.url).offer(KEY, RESULT.to_json(), made)
    image, listing = (f"/cas/{digest.hash}" for digest in made)
    first = [f"HEAD {image}", f"PUT {image}", f"HEAD {listing}", f"PUT {listing}", f"PUT /ac/{KEY}"]
    expected = [*first, f"HEAD {image}", f"HEAD {listing}", f"PUT /ac/{KEY}"]
    servers.wait_for(lambda: len(server.requests) >= len(expected), "nginx's log")
    assert server.requests == expected


def test_contents_of_another_size_under_the_name_are_replaced(
    server: Nginx, made: dict[Digest, Path], tmp_path: Path
) -> None:
    server.holds(f"cas/{digest_of(IMAGE).hash}", IMAGE[:1000])
    assert remote(server.url).offer(KEY, RESULT.to_json(), made)
    assert fetched(remote(server.url), IMAGE, tmp_path / "image") == IMAGE


def test_nothing_is_sent_by_one_that_may_only_read(server: Nginx, made: dict[Digest, Path]) -> None:
    cache = remote(server.url, writes=False)
    assert not cache.offer(KEY, RESULT.to_json(), made)
    assert cache.result(KEY) is None  # the last line in the log
    servers.wait_for(lambda: server.requests, "nginx's log")
    assert server.requests == [f"GET /ac/{KEY}"]
    assert cache.trouble == ""


@pytest.mark.parametrize("change", ["other bytes", "shorter", "longer", "gone"])
def test_a_file_that_was_changed_meanwhile_is_not_sent(server: Nginx, made: dict[Digest, Path], change: str) -> None:
    path = made[digest_of(LISTING)]
    if change == "gone":
        path.unlink()
    else:
        new = {"other bytes": LISTING.swapcase(), "shorter": LISTING[1:], "longer": LISTING + b"x"}[change]
        path.write_bytes(new)
    cache = remote(server.url)
    assert not cache.offer(KEY, RESULT.to_json(), made)
    assert cache.result(KEY) is None
    assert {path.name for path in server.files.rglob("*") if path.is_file()} == {digest_of(IMAGE).hash}
    assert cache.trouble == ""


def test_several_threads_may_fetch_at_once(server: Nginx, tmp_path: Path) -> None:
    contents = [os.urandom(200_000) for _ in range(24)]
    for each in contents:
        server.holds(f"cas/{digest_of(each).hash}", each)
    cache = remote(server.url)
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda number: fetched(cache, contents[number], tmp_path / str(number)), range(len(contents)))
        assert list(got) == contents
    assert cache.trouble == ""


def test_tls_is_spoken_with_those_whose_certificate_is_trusted(
    tmp_path: Path, made: dict[Digest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = servers.certificate(tmp_path / "tls")
    with servers.nginx(tmp_path / "nginx", certificate=pair) as server:
        stranger = remote(server.url)
        assert stranger.result(KEY) is None
        said(stranger, "not secure", "self-signed certificate", "SSL_CERT_FILE")
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        friend = remote(server.url)
        assert friend.offer(KEY, RESULT.to_json(), made)
        assert friend.result(KEY) is not None
        wrong_name = remote(server.url.replace("localhost", "127.0.0.1"))
        assert wrong_name.result(KEY) is None
        said(wrong_name, "not secure")
        no_tls = remote(server.url.replace("https", "http"))
        assert no_tls.result(KEY) is None
        said(no_tls, "answers 400")


# Who we are


def test_nginx_lets_in_who_is_in_the_environment(
    tmp_path: Path, made: dict[Digest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.nginx(tmp_path / "nginx", login=("builder", SECRET)) as server:
        stranger = remote(server.url)
        assert stranger.result(KEY) is None
        said(stranger, "401 Unauthorized", "BUILDSYS_REMOTE_TOKEN", "BUILDSYS_REMOTE_USER", "netrc")
        monkeypatch.setenv("BUILDSYS_REMOTE_USER", "builder")
        monkeypatch.setenv("BUILDSYS_REMOTE_PASSWORD", SECRET)
        friend = remote(server.url)
        assert friend.offer(KEY, RESULT.to_json(), made)
        assert friend.result(KEY) is not None
        monkeypatch.setenv("BUILDSYS_REMOTE_PASSWORD", "wrong")
        assert remote(server.url).result(KEY) is None


@pytest.mark.parametrize("named", [True, False])
def test_nginx_lets_in_who_is_in_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    file = tmp_path / ("my-netrc" if named else "home/.netrc")
    file.write_text(
        f"machine elsewhere login builder password wrong\nmachine 127.0.0.1 login builder password {SECRET}\n"
    )
    file.chmod(0o600)
    if named:
        monkeypatch.setenv("NETRC", str(file))
    with servers.nginx(tmp_path / "nginx", login=("builder", SECRET)) as server:
        server.holds(f"cas/{digest_of(LISTING).hash}", LISTING)
        cache = remote(server.url)
        assert fetched(cache, LISTING, tmp_path / "listing") == LISTING
        assert cache.trouble == ""


def test_a_token_is_sent_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDSYS_REMOTE_TOKEN", SECRET)
    with Hostile(lambda request, to, over: to.sendall(answer(404))) as server:
        assert remote(server.url).result(KEY) is None
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_a_wrong_key_is_told_from_a_right_one_by_s3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote(bucket.url).result(KEY) is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    cache = remote(bucket.url)
    assert cache.result(KEY) is None
    said(cache, bucket.url, "403 Forbidden", "AWS_ACCESS_KEY_ID", "s3:ListBucket")


def test_a_bucket_that_is_not_there_is_no_miss(bucket: Bucket) -> None:
    cache = remote("s3://another-bucket")
    assert cache.result(KEY) is None
    said(cache, "s3://another-bucket", "no such bucket")


def test_a_public_bucket_needs_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile(lambda request, to, over: to.sendall(answer(200, RESULT.to_json()))) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert remote("s3://public/x").result(KEY) == RESULT.to_json()
        assert server.requests[0].path == f"/public/x/ac/{KEY}"
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("scheme", ["http", "s3"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_never_follow_a_redirect(
    status: int, scheme: str, made: dict[Digest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDSYS_REMOTE_TOKEN", SECRET)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    with Hostile(lambda request, to, over: to.sendall(answer(200, RESULT.to_json()))) as elsewhere:

        def away(request: Request, to: socket.socket, over: threading.Event) -> None:
            to.sendall(answer(status, b"", f"Location: {elsewhere.url}{request.path}"))

        with Hostile(away) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            url = server.url if scheme == "http" else "s3://bucket"
            reader, writer, fetcher = remote(url), remote(url), remote(url)
            assert reader.result(KEY) is None
            assert not writer.offer(KEY, RESULT.to_json(), made)
            assert fetched(fetcher, IMAGE, tmp_path / "image") is None
            for cache in (reader, writer, fetcher):
                said(cache, f"{status} ", "has moved to")
            assert "authorization" in server.requests[0].headers
        assert elsewhere.requests == []


def test_no_credential_is_in_what_is_logged(
    server: Nginx,
    bucket: Bucket,
    made: dict[Digest, Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUILDSYS_REMOTE_TOKEN", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    caplog.set_level(logging.INFO)
    for url in (server.url, bucket.url):
        cache = remote(url)
        cache.offer(KEY, RESULT.to_json(), made)
        cache.result(KEY)
        assert SECRET not in cache.trouble
    text = caplog.text + (server.folder / "access.log").read_text() + (server.folder / "error.log").read_text()
    for secret in (SECRET, bucket.environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in text


# What a user can get wrong


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no URL with a host"),
        ("cache.example", "no URL with a host"),
        ("/var/cache", "no URL with a host"),
        ("http://", "no URL with a host"),
        ("http:///ac", "no URL with a host"),
        ("http://host:port/", "no URL with a host"),
        ("http://host:99999/", "no URL with a host"),
        ("http://host/with space", "no URL with a host"),
        ("http://host/\nline", "no URL with a host"),
        ("http://[::1/", "no URL with a host"),
        ("ftp://host/", "no scheme that is known"),
        ("grpc://host/", "no scheme that is known"),
        ("s3:///prefix", "no URL with a host"),
        ("s3://bucket:80/prefix", "names no bucket"),
        (f"http://builder:{SECRET}@host/", "a user name or password in it"),
        (f"s3://key:{SECRET}@bucket/", "a user name or password in it"),
        (f"builder:{SECRET}@host", "a user name or password in it"),
        (f"https://host/prefix?token={SECRET}", "a query"),
        (f"https://host/#{SECRET}", "a query or fragment"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        remote(url)
    assert words in refused.value.message
    assert refused.value.hint
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"BUILDSYS_REMOTE_TOKEN": f"{SECRET}\n"}, "BUILDSYS_REMOTE_TOKEN has characters"),
        ({"BUILDSYS_REMOTE_TOKEN": f"Bearer {SECRET}"}, "BUILDSYS_REMOTE_TOKEN has characters"),
        ({"BUILDSYS_REMOTE_USER": "builder"}, "BUILDSYS_REMOTE_PASSWORD is not set"),
        ({"BUILDSYS_REMOTE_PASSWORD": SECRET}, "BUILDSYS_REMOTE_USER is not set"),
        ({"NETRC": "/nowhere/netrc"}, "/nowhere/netrc"),
    ],
)
def test_credentials_that_cannot_be_meant_are_refused(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words) as refused:
        remote("http://host/")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "key"}, "only one of"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, "only one of"),
        ({"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": f"{SECRET}\n"}, "has characters"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "ftp://localhost"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": f"http://u:{SECRET}@localhost"}, "AWS_ENDPOINT_URL has credentials"),
    ],
)
def test_settings_for_s3_that_cannot_be_meant_are_refused(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words) as refused:
        remote("s3://bucket/")
    assert SECRET not in str(refused.value)


def test_a_netrc_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "home/.netrc"
    file.write_text(f"machine host\n{SECRET}\n")
    with pytest.raises(UserError, match=r"^~/\.netrc, line \d:") as refused:
        remote("http://host/")
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_netrc_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "home/.netrc"
    file.write_text(f"machine host login builder password {SECRET}\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match=r"(?s)^~/\.netrc.*chmod 600") as refused:
        remote("http://host/")
    assert SECRET not in str(refused.value)


# What servers do that do not answer

Behave = Callable[[Request, socket.socket, threading.Event], object]


def dripping(head: bytes, drop: bytes) -> Behave:
    """Sends `head` and then `drop` again and again, a few bytes a second, until the test is over."""

    def behave(request: Request, to: socket.socket, over: threading.Event) -> object:
        to.sendall(head)
        while not over.wait(0.02):
            to.sendall(drop)
        return CLOSE

    return behave


def endless(head: bytes, piece: bytes) -> Behave:
    """Sends `head` and then `piece` as fast as it can until nobody takes it."""

    def behave(request: Request, to: socket.socket, over: threading.Event) -> object:
        to.sendall(head)
        while not over.is_set():
            to.sendall(piece)
        return CLOSE

    return behave


def sends(data: bytes) -> Behave:
    """Sends that and closes the connection."""

    def behave(request: Request, to: socket.socket, over: threading.Event) -> object:
        to.sendall(data)
        return CLOSE

    return behave


def answers(data: bytes) -> Behave:
    return lambda request, to, over: to.sendall(data)


def silent(request: Request, to: socket.socket, over: threading.Event) -> object:
    over.wait()
    return CLOSE


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
OTHER = bytes(reversed(IMAGE))

FAILING = [
    pytest.param(silent, "did not answer in 0.4 s", id="silent"),
    pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"), "did not answer in 0.4 s", id="headers-drip"),
    pytest.param(dripping(HUGE, b"x"), "is too slow", id="body-drips"),
    pytest.param(dripping(CHUNKED, b"1\r\nx\r\n"), "is too slow", id="chunks-drip"),
    pytest.param(sends(b""), "breaks the connection", id="closes"),
    pytest.param(sends(b"\x00\xff\x1b[2J nonsense\r\n\r\n"), "does not speak HTTP", id="garbage"),
    pytest.param(sends(answer(200, LISTING)[:-10]), "ends in the middle", id="body-ends-early"),
    pytest.param(sends(CHUNKED + b"5\r\nhel"), "ends in the middle", id="chunk-ends-early"),
    pytest.param(endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "does not speak HTTP", id="headers-never-end"),
    pytest.param(answers(answer(500, SECRET.encode())), "answers 500 (Internal Server Error)", id="500"),
    pytest.param(answers(answer(503)), "answers 503 (Service Unavailable)", id="503"),
    pytest.param(answers(answer(403)), "does not let us in (403 Forbidden): set BUILDSYS_REMOTE_TOKEN", id="403"),
    pytest.param(answers(answer(599)), "answers 599", id="599"),
    pytest.param(answers(b"HTTP/1.1 204 x\r\n\r\n"), "answers 204", id="204"),
]
LYING = [
    pytest.param(answers(answer(200, OTHER)), id="other-bytes"),
    pytest.param(answers(answer(200, IMAGE[:-1])), id="too-few"),
    pytest.param(answers(answer(200, IMAGE + b"x")), id="one-too-many"),
    pytest.param(answers(answer(200)), id="none"),
    pytest.param(sends(b"HTTP/1.1 200 OK\r\nContent-Le"), id="headers-end-early"),
    pytest.param(endless(HUGE, b"x" * 65536), id="endless"),
    pytest.param(endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), id="endless-chunks"),
    pytest.param(answers(answer(200, OTHER, "Content-Encoding: gzip")), id="encoded"),
]


@pytest.mark.parametrize(("behave", "words"), FAILING)
def test_a_server_that_fails_is_given_up_with_one_sentence(behave: Behave, words: str, tmp_path: Path) -> None:
    with Hostile(behave) as server:
        readers = remote(server.url, timeout=SHORT), remote(server.url, timeout=SHORT)
        assert at_once(lambda: readers[0].result(KEY)) is None
        assert at_once(lambda: fetched(readers[1], IMAGE, tmp_path / "image")) is None
        asked = len(server.requests)
        for cache in readers:
            said(cache, words, server.url, "going on with the local cache only")
            before = cache.trouble
            assert cache.result(KEY) is None
            assert fetched(cache, IMAGE, tmp_path / "image") is None
            assert not cache.offer(KEY, RESULT.to_json(), {})
            assert cache.trouble == before
        assert len(server.requests) == asked


@pytest.mark.parametrize("behave", LYING)
def test_wrong_contents_are_not_kept_and_the_server_not_believed_again(behave: Behave, tmp_path: Path) -> None:
    with Hostile(behave) as server:
        cache = remote(server.url)
        assert at_once(lambda: fetched(cache, IMAGE, tmp_path / "image")) is None
        said(cache, f"wrong contents for {digest_of(IMAGE).hash[:12]}", "local cache only")
        asked = len(server.requests)
        assert fetched(cache, LISTING, tmp_path / "listing") is None
        assert cache.result(KEY) is None
        assert len(server.requests) == asked


def test_contents_too_large_to_be_ours_are_not_asked_for(tmp_path: Path) -> None:
    with Hostile(endless(HUGE, b"x" * 65536)) as server:
        cache = remote(server.url)
        assert at_once(lambda: cache.blob(Digest("0" * 64, LARGEST_BLOB + 1), tmp_path / "fetched")) is False
        said(cache, "wrong contents", "local cache only")
        assert server.requests == []
        assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize(
    "contents", [OTHER, IMAGE[:-1], IMAGE + b"x", b"", IMAGE[:1000] + b"\0" + IMAGE[1001:]], ids=range(5)
)
def test_poisoned_contents_in_nginx_and_in_s3_are_found_out(
    server: Nginx, bucket: Bucket, tmp_path: Path, contents: bytes
) -> None:
    server.holds(f"cas/{digest_of(IMAGE).hash}", contents)
    bucket.holds(f"cas/{digest_of(IMAGE).hash}", contents)
    for url in (server.url, bucket.url):
        cache = remote(url)
        assert fetched(cache, IMAGE, tmp_path / "image") is None
        said(cache, url, "wrong contents")


@pytest.mark.parametrize(
    "behave",
    [
        answers(answer(200, b"not JSON")),
        answers(answer(200, b"\xff\xfe" * 100)),
        answers(answer(200, b"")),
        sends(b"HTTP/1.1 200 OK\r\nContent-Le"),
        answers(answer(200, b"[" * 500_000)),
        answers(answer(200, b'{"outputFiles": [{"path": "../x", "digest": {"hash": "%s"}}]}' % (b"0" * 64))),
        answers(answer(200, b" " * LARGEST_RESULT + RESULT.to_json())),
        endless(HUGE, b" " * 65536),
        endless(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    ],
    ids=["no-json", "no-text", "empty", "headers-end-early", "deep", "outside", "large", "endless", "endless-chunks"],
)
def test_what_is_no_result_is_none_and_said(behave: Behave) -> None:
    with Hostile(behave) as server:
        cache = remote(server.url)
        assert at_once(lambda: cache.result(KEY)) is None
        said(cache, KEY[:12], "no result", "local cache only")


def test_a_server_that_was_given_up_is_hung_up_on(tmp_path: Path) -> None:
    gone = threading.Event()

    def behave(request: Request, to: socket.socket, over: threading.Event) -> object:
        try:
            return dripping(HUGE, b"x")(request, to, over)
        except OSError:
            gone.set()
            return CLOSE

    with Hostile(behave) as server:
        cache = remote(server.url, timeout=SHORT)
        assert fetched(cache, IMAGE, tmp_path / "image") is None
        servers.wait_for(gone.is_set, "the end of the connection")


def test_a_disk_that_takes_no_more_is_not_the_servers_fault(server: Nginx, tmp_path: Path) -> None:
    server.holds(f"cas/{digest_of(IMAGE).hash}", IMAGE)
    cache = remote(server.url)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(IMAGE) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            cache.blob(digest_of(IMAGE), tmp_path / "fetched")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "fetched").exists()
    with pytest.raises(FileNotFoundError):
        cache.blob(digest_of(IMAGE), tmp_path / "no folder" / "fetched")
    assert cache.trouble == ""
    assert fetched(cache, IMAGE, tmp_path / "image") == IMAGE


def test_a_port_nobody_listens_on_is_said(tmp_path: Path) -> None:
    with servers.closed_port() as port:
        cache = remote(f"http://127.0.0.1:{port}")
        assert at_once(lambda: fetched(cache, IMAGE, tmp_path / "image")) is None
        said(cache, "cannot be reached: Connection refused")


def test_a_host_that_does_not_take_connections_is_said() -> None:
    with servers.deaf_port() as port:
        cache = remote(f"http://127.0.0.1:{port}", timeout=SHORT)
        assert at_once(lambda: cache.result(KEY)) is None
        said(cache, "did not answer in")


def test_a_name_nobody_has_is_said() -> None:
    cache = remote("http://no-such-host.invalid")
    assert at_once(lambda: cache.result(KEY)) is None
    said(cache, "http://no-such-host.invalid", "its name is not known")


def test_a_server_that_does_not_speak_tls_is_said() -> None:
    with Hostile(sends(b"")) as server:
        plain = remote(server.url.replace("http", "https"))
        # What it reads is no line of text; it closes.
        assert at_once(lambda: plain.result(KEY)) is None
        said(plain, "local cache only")


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    with Hostile(sends(answer(200, RESULT.to_json()))) as server:
        cache = remote(server.url)
        for _ in range(5):
            assert cache.result(KEY) == RESULT.to_json()
        assert cache.trouble == ""


# What servers do that one writes to


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (507, "has no room (507 Insufficient Storage)"),
        (413, "has no room (413 "),
        (403, "does not let us in (403 Forbidden)"),
        (401, "does not let us in (401 Unauthorized)"),
        (405, "answers 405 (Method Not Allowed)"),
        (409, "answers 409 (Conflict)"),
        (500, "answers 500 (Internal Server Error)"),
    ],
)
def test_a_server_that_refuses_a_write_is_still_read(
    status: int, words: str, made: dict[Digest, Path], tmp_path: Path
) -> None:
    def full(request: Request, to: socket.socket, over: threading.Event) -> None:
        there = request.path == f"/cas/{digest_of(LISTING).hash}" and request.method == "GET"
        to.sendall(answer(200, LISTING) if there else answer(status if request.method == "PUT" else 404))

    with Hostile(full) as server:
        cache = remote(server.url)
        assert not cache.offer(KEY, RESULT.to_json(), made)
        said(cache, words, "nothing more is sent to it")
        assert server.methods == ["HEAD", "PUT"]
        assert not cache.offer(KEY, RESULT.to_json(), made)
        assert server.methods == ["HEAD", "PUT"]
        assert cache.result(KEY) is None
        assert fetched(cache, LISTING, tmp_path / "listing") == LISTING
    first = cache.trouble
    assert cache.result(KEY) is None  # there is no server any more
    assert cache.trouble == first


def test_the_result_is_not_sent_if_contents_were_refused(tmp_path: Path, made: dict[Digest, Path]) -> None:
    with servers.nginx(tmp_path / "nginx", largest="1m") as server:
        cache = remote(server.url)
        assert not cache.offer(KEY, RESULT.to_json(), made)
        said(cache, "has no room (413 ")
        assert [path for path in server.files.rglob("*") if path.is_file()] == []


def test_nginx_without_webdav_is_read_only(tmp_path: Path, made: dict[Digest, Path]) -> None:
    with servers.nginx(tmp_path / "nginx", writable=False) as server:
        server.holds(f"cas/{digest_of(LISTING).hash}", LISTING)
        cache = remote(server.url)
        assert not cache.offer(KEY, RESULT.to_json(), made)
        said(cache, "answers 405 (Method Not Allowed)", "nothing more is sent")
        assert fetched(cache, LISTING, tmp_path / "listing") == LISTING


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (silent, "did not answer"),
        (sends(b""), "breaks the connection"),
        (sends(b"nonsense\r\n\r\n"), "does not speak HTTP"),
    ],
)
def test_a_server_that_fails_a_write_is_given_up(behave: Behave, words: str, made: dict[Digest, Path]) -> None:
    def fails(request: Request, to: socket.socket, over: threading.Event) -> object:
        return (behave if request.method == "PUT" else answers(answer(404)))(request, to, over)

    with Hostile(fails) as server:
        cache = remote(server.url, timeout=SHORT)
        assert at_once(lambda: cache.offer(KEY, RESULT.to_json(), made)) is False
        assert cache.trouble
        said(cache, "local cache only")
        asked = len(server.requests)
        assert cache.result(KEY) is None
        assert len(server.requests) == asked


def test_a_server_that_does_not_take_what_is_sent_is_given_up(tmp_path: Path) -> None:
    large = os.urandom(1 << 20) * 16  # more than the system takes from us without anybody reading
    (tmp_path / "large").write_bytes(large)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one_answer_then_deaf() -> None:
            connection, _ = listening.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                connection.sendall(answer(404))
                over.wait()

        thread = threading.Thread(target=one_answer_then_deaf, daemon=True)
        thread.start()
        cache = remote(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=SHORT)
        assert at_once(lambda: cache.offer(KEY, RESULT.to_json(), {digest_of(large): tmp_path / "large"})) is False
        said(cache, "did not answer in time")
        over.set()
        thread.join()


# What is told apart


def test_a_slow_server_that_keeps_moving_is_waited_for(tmp_path: Path) -> None:
    contents = os.urandom(4 << 20)

    def steady(request: Request, to: socket.socket, over: threading.Event) -> None:
        to.sendall(answer(200, contents)[: -len(contents)])
        for start in range(0, len(contents), 1 << 18):
            over.wait(SHORT / 8)  # twice SHORT in all
            to.sendall(contents[start : start + (1 << 18)])

    with Hostile(steady) as server:
        cache = remote(server.url, timeout=SHORT)
        assert fetched(cache, contents, tmp_path / "large") == contents
        assert cache.trouble == ""


def test_a_server_that_answers_as_bazel_remote_does_is_understood() -> None:
    """JSON only for those who ask for it, written anew, and in pieces."""

    def behave(request: Request, to: socket.socket, over: threading.Event) -> None:
        if request.headers["accept"] != "application/json":
            to.sendall(answer(200, b"\x12\x08protobuf"))
            return
        document = json.loads(RESULT.to_json())
        body = json.dumps(dict(reversed(document.items())), indent=1).encode()
        pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
        to.sendall(CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""]))

    with Hostile(behave) as server:
        found = remote(server.url).result(KEY)
        assert found is not None
        assert found != RESULT.to_json()
        assert Result.from_json(found) == RESULT


def test_a_child_process_does_not_use_its_parents_connections() -> None:
    peers: list[object] = []

    def behave(request: Request, to: socket.socket, over: threading.Event) -> None:
        peers.append(to.getpeername())
        to.sendall(answer(200, RESULT.to_json()))

    with Hostile(behave) as server:
        cache = remote(server.url)
        assert cache.result(KEY) == RESULT.to_json()
        child = multiprocessing.get_context("fork").Process(
            target=lambda: os._exit(0 if cache.result(KEY) == RESULT.to_json() else 1)
        )
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        assert cache.result(KEY) == RESULT.to_json()
    assert len(peers) == 3
    assert peers[0] == peers[2] != peers[1]


def test_ctrl_c_is_heard_while_a_server_is_silent(tmp_path: Path) -> None:
    into = tmp_path / "fetched"
    script = (
        "import signal, sys; from pathlib import Path; from buildsys.cache.remote import Remote;"
        "from buildsys.cache.result import Digest; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"Remote(sys.argv[1], writes=False, timeout=1e9).blob(Digest('0' * 64, 5), Path({str(into)!r}))"
    )
    with Hostile(silent) as server:
        process = subprocess.Popen([sys.executable, "-c", script, server.url], stderr=subprocess.PIPE)
        servers.wait_for(lambda: server.requests, "the request")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert complaint.rstrip().endswith(b"KeyboardInterrupt")
    assert not into.exists()


# Anything at all

lines = st.binary(max_size=30) | st.sampled_from(
    [
        b"Content-Length: 3",
        b"Content-Length: -3",
        b"Content-Length: x",
        b"Content-Length: 3, 4",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"Content-Encoding: zstd",
        b"Location: http://[",
        b"Retry-After: 100000",
        b"Connection: close",
        b": ",
    ]
)
first_lines = st.binary(max_size=30) | st.builds(
    lambda version, status, phrase: b"%b %d %b" % (version, status, phrase),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP/0.9"]),
    st.sampled_from([200, 200, 200, 404, 500]) | st.integers(-1, 1000),
    st.binary(max_size=10),
)
bodies = st.binary(max_size=40) | st.sampled_from(
    [b"5\r\nhello\r\n0\r\n\r\n", b"fffffffff\r\nx", b"-1\r\nx", RESULT.to_json()]
)


@given(first_lines, st.lists(lines, max_size=4), bodies)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_server_sends_nothing_is_raised_and_nothing_wrong_is_kept(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, headers: list[bytes], body: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "anything"
    with Hostile(sends(b"\r\n".join([first, *headers, b"", b""]) + body)) as server:
        cache, reader = remote(server.url), remote(server.url)
        assert at_once(lambda: (fetched(cache, IMAGE, folder),)) == (None,)
        found = at_once(lambda: (reader.result(KEY),))
        assert found in ((None,), (RESULT.to_json(),))
        assert cache.trouble == "" or cache.trouble.isprintable()
