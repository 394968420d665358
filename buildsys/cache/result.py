"""What an action made, as an `ActionResult` of the Remote Execution API, in JSON.

Servers that know the API (bazel-remote) check what is stored under `/ac/` and
may write it anew in an order of their own; so nothing here depends on its bytes.
Source: build/bazel/remote/execution/v2/remote_execution.proto (ActionResult,
OutputFile, Digest, ExecutedActionMetadata), and the JSON mapping of protocol
buffers 3: 64-bit integers are strings, bytes are base64, zeroes are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Digest(NamedTuple):
    """The sha256 of some contents, in lower-case hexadecimal, and their size in bytes."""

    hash: str
    size: int


class Output(NamedTuple):
    """One file an action made: its path from the project's folder, with `/` between names, and its contents."""

    path: str
    digest: Digest
    executable: bool


class Result(NamedTuple):
    """What an action made. `facts` are JSON; `worker` is the machine it was made on, `began` and `ended` RFC 3339."""

    outputs: tuple[Output, ...]
    facts: Mapping[str, Any]
    worker: str = ""
    began: str = ""
    ended: str = ""

    def to_json(self) -> bytes:
        """The ActionResult. Facts are its standard output: they are what the action had to say."""
        from base64 import b64encode

        message: dict[str, Any] = {
            "outputFiles": [
                {
                    "path": path,
                    "digest": {"hash": digest.hash, "sizeBytes": str(digest.size)},
                    **({"isExecutable": True} if executable else {}),
                }
                for path, digest, executable in self.outputs
            ],
            "stdoutRaw": b64encode(json.dumps(dict(self.facts), sort_keys=True).encode()).decode(),
            # An empty time is none that protocol buffers can read.
            "executionMetadata": {
                name: value
                for name, value in (
                    ("worker", self.worker),
                    ("executionStartTimestamp", self.began),
                    ("executionCompletedTimestamp", self.ended),
                )
                if value
            },
        }
        return json.dumps(message).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Result:
        """The result in `data`. Raises ValueError if it is none of ours, whatever it is."""
        from base64 import b64decode

        try:
            message = json.loads(data)
            outputs = tuple(_output(each) for each in message.get("outputFiles", ()))
            facts = json.loads(b64decode(message.get("stdoutRaw", ""), validate=True))
            about = message.get("executionMetadata", {})
            times = (about.get("executionStartTimestamp", ""), about.get("executionCompletedTimestamp", ""))
            worker = about.get("worker", "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no result of an action: {error}") from error
        if (
            message.get("exitCode")
            or not isinstance(facts, dict)
            or not all(isinstance(t, str) for t in (*times, worker))
        ):
            raise ValueError("no result of an action that succeeded")
        if len({output.path for output in outputs}) < len(outputs):
            raise ValueError("no result of an action: two outputs have one path")
        return cls(outputs, facts, worker, *times)


def _output(message: Mapping[str, Any]) -> Output:
    """One OutputFile. Raises ValueError if it could write outside the project's folder, or reach a terminal."""
    path, digest = message["path"], message["digest"]
    name, size = digest["hash"], digest.get("sizeBytes", 0)
    if (
        not isinstance(path, str)
        or not isinstance(name, str)
        or isinstance(size, bool)
        or not isinstance(size, int | str)
    ):
        raise ValueError("an output has no path or digest")
    if not _SHA256.fullmatch(name) or not _SIZE.fullmatch(str(size)):
        raise ValueError(f"{name!r}, {size!r} bytes, is no digest")
    if path.startswith("/") or "\\" in path or {"", ".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is no path in the project's folder")
    if _CONTROL.search(path) or len(path.encode()) > 4096:  # what is half a character raises ValueError here
        raise ValueError(f"{path[:80]!r} is no path that we would make")
    return Output(path, Digest(name, int(size)), message.get("isExecutable") is True)
