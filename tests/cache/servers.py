"""Servers for a shared cache: real ones (nginx, an S3 server), and one that does what no server should.

The real ones are processes with a folder of their own; they listen on the loopback
interface, on a port that was free, and end with the `with` block.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/incoming;
    proxy_temp_path {folder}/unused;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {folder}/files;
        client_max_body_size {largest};
        {options}
        location ~ "^/(team/)?(ac|cas)/[0-9a-f]{{64}}$" {{
            {dav}
        }}
        location / {{ return 403; }}
    }}
}}
"""
DAV = "dav_methods PUT; create_full_put_path on;"


class Nginx(NamedTuple):
    """A running nginx; it serves the folder `files`."""

    url: str
    files: Path
    folder: Path

    @property
    def requests(self) -> list[str]:
        """Method and path of what was asked, as far as it is in the log."""
        return re.findall(r'"([A-Z]+ \S+) HTTP', (self.folder / "access.log").read_text())

    def holds(self, path: str, contents: bytes) -> None:
        """Put a file there behind everybody's back."""
        (self.files / path).parent.mkdir(parents=True, exist_ok=True)
        (self.files / path).write_bytes(contents)


@contextmanager
def nginx(
    folder: Path,
    *,
    writable: bool = True,
    login: tuple[str, str] | None = None,
    certificate: tuple[Path, Path] | None = None,
    largest: str = "100m",
) -> Iterator[Nginx]:
    """nginx with WebDAV's PUT in the layout of a Bazel cache, under / and /team/.

    `login` is the one user and password it takes; `certificate` and its key make it speak TLS; `largest` is
    the largest body it takes, in nginx's words.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # where not every user looks
    if program is None:
        pytest.skip("nginx is not installed: apt-get install --no-install-recommends nginx-light")
    (folder / "files").mkdir(parents=True)
    options = []
    if login:
        (folder / "users").write_text("{}:{{PLAIN}}{}\n".format(*login))
        options += ["auth_basic cache;", f"auth_basic_user_file {folder}/users;"]
    if certificate:
        options += [f"ssl_certificate {certificate[0]};", f"ssl_certificate_key {certificate[1]};"]
    for _ in range(5):
        port = _free_port()
        settings = NGINX.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            port=port,
            tls=" ssl" if certificate else "",
            largest=largest,
            options="\n".join(options),
            dav=DAV if writable else "",
        )
        (folder / "nginx.conf").write_text(settings)
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            if _listens(port, process):
                scheme = "https" if certificate else "http"
                yield Nginx(
                    f"{scheme}://localhost:{port}" if certificate else f"{scheme}://127.0.0.1:{port}",
                    folder / "files",
                    folder,
                )
                return
        finally:
            process.terminate()
            process.wait(timeout=20)
    raise AssertionError((folder / "error.log").read_text())


class Bucket(NamedTuple):
    """A bucket of an S3 server that checks signatures, and the environment in which it can be used."""

    url: str
    endpoint: str
    environment: Mapping[str, str]

    def keys(self) -> set[str]:
        """What is in it."""
        listed = self._client().list_objects_v2(Bucket=self._name).get("Contents", ())
        return {each["Key"] for each in listed}

    def kind(self, key: str) -> str:
        """The content type of what is under `key`."""
        return str(self._client().head_object(Bucket=self._name, Key=key)["ContentType"])

    def holds(self, key: str, contents: bytes) -> None:
        """Put an object there."""
        self._client().put_object(Bucket=self._name, Key=key, Body=contents)

    @property
    def _name(self) -> str:
        return self.url.split("/")[2]

    def _client(self) -> Any:  # boto3 makes its classes as it runs
        return _boto(self.endpoint, self.environment, "s3")


@contextmanager
def s3(folder: Path) -> Iterator[Callable[[str], Bucket]]:
    """An S3 server (moto's, a process of its own); call what is given with a name for a new bucket."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
    try:
        wait_for(lambda: re.search(rb"Running on http://", (folder / "log").read_bytes()), "the S3 server")
        told = re.search(rb"Running on (http://127\.0\.0\.1:\d+)", (folder / "log").read_bytes())
        assert told, (folder / "log").read_text()
        endpoint = told[1].decode()
        anybody = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anybody"}
        iam = _boto(endpoint, anybody, "iam")
        iam.create_user(UserName="builder")
        key = iam.create_access_key(UserName="builder")["AccessKey"]
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_user_policy(UserName="builder", PolicyName="all", PolicyDocument=json.dumps(everything))
        environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        # From now on a request needs a signature that is right.
        import urllib3

        assert urllib3.request("POST", f"{endpoint}/moto-api/reset-auth", body=b"0").status == 200

        def bucket(name: str) -> Bucket:
            where = {"LocationConstraint": environment["AWS_REGION"]}
            _boto(endpoint, environment, "s3").create_bucket(Bucket=name, CreateBucketConfiguration=where)
            return Bucket(f"s3://{name}", endpoint, environment)

        yield bucket
    finally:
        process.terminate()
        process.wait(timeout=20)


def _boto(endpoint: str, environment: Mapping[str, str], service: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=environment.get("AWS_REGION", "us-east-1"),
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, proxies={}),
    )


class Request(NamedTuple):
    """What a server was asked; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Hostile:
    """A server in a thread. `behave` has the request and the socket to do as it likes; it may wait for `over`."""

    def __init__(self, behave: Callable[[Request, socket.socket, threading.Event], object]) -> None:
        self.requests: list[Request] = []
        self.over = threading.Event()
        hostile = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    while (request := _read_request(self.request)) and not hostile.over.is_set():
                        hostile.requests.append(request)
                        if behave(request, self.request, hostile.over) is CLOSE:
                            return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


CLOSE = object()


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer as it should be."""
    return "\r\n".join([f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def _read_request(connection: socket.socket) -> Request | None:
    with connection.makefile("rb") as stream:
        first = stream.readline().decode()
        if not first:
            return None
        method, path, _ = first.split()
        headers = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Request(method, path, headers, stream.read(int(headers.get("content-length", 0))))


@contextmanager
def closed_port() -> Iterator[int]:
    """A port nobody listens on, and nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port at which a connection is never made: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed but itself, and its key: two files."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, plain))
    return folder / "certificate.pem", folder / "key.pem"


def wait_for(event: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Return once `event` is true."""
    deadline = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < deadline, f"{what}: has not come"
        time.sleep(0.005)


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process listens at `port`; false if it ended instead."""

    def connected() -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", port)) == 0

    wait_for(lambda: process.poll() is not None or connected(), "the server")
    return process.poll() is None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
