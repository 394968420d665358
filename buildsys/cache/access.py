"""Where a shared cache is, and as whom we come: its URL, and the credentials the environment has for it.

Credentials are in the headers of requests and nowhere else. A URL that holds one is
refused without being repeated, for URLs end up in messages, logs and version control.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from buildsys.errors import UserError

TOKEN, USER, PASSWORD = "BUILDSYS_REMOTE_TOKEN", "BUILDSYS_REMOTE_USER", "BUILDSYS_REMOTE_PASSWORD"
EXAMPLES = "http://host:8080/prefix, https://host/prefix, s3://bucket/prefix"
ADVICE = f"set {TOKEN}, or {USER} and {PASSWORD}, or give the host an entry in ~/.netrc"
ADVICE_S3 = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user with s3:GetObject and s3:ListBucket, "
    "and s3:PutObject to write; and AWS_REGION"
)
# Of a bearer token: RFC 6750, section 2.1.
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")

Headers = dict[str, str]
# From method, URL, headers and body of a request to the headers to send.
Sign = Callable[[str, str, Mapping[str, str], bytes | None], Headers]


class Access(NamedTuple):
    """How to get at a shared cache. `name` may be shown; paths are put behind `base`, which ends in `/`.

    `sign` adds what proves who we are; `advice` is what a user can do if that is not enough.
    """

    name: str
    base: str
    sign: Sign
    advice: str


def access(url: str) -> Access:
    """How to get at the shared cache at `url`. Raises UserError for a URL or credentials that cannot be used."""
    if "@" in url:
        raise UserError("the URL of the shared cache has a user name or password in it", f"take it out, and {ADVICE}")
    if "?" in url or "#" in url:
        raise UserError("the URL of the shared cache has a query or fragment in it", f"the forms are {EXAMPLES}")
    parts = _split(url, "the URL of the shared cache")
    if parts.scheme == "s3":
        return _s3(url, parts)
    if parts.scheme not in ("http", "https"):
        raise UserError(f"the shared cache {url!r} has no scheme that is known", f"the forms are {EXAMPLES}")
    return Access(url, url.rstrip("/") + "/", _bearer_or_basic(str(parts.hostname)), ADVICE)


def _split(url: str, what: str) -> SplitResult:
    """`url` in parts, with a host. Raises UserError."""
    try:
        parts = urlsplit(url)
        sound = parts.hostname and (parts.port is None or parts.port > 0) and re.fullmatch("[!-~]+", url)
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"{what}, {url!r}, is no URL with a host", f"the forms are {EXAMPLES}")
    return parts


def _bearer_or_basic(host: str) -> Sign:
    authorization = _authorization(host)
    return lambda method, url, headers, body: {**headers, **authorization}


def _authorization(host: str) -> Headers:
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if token:
        if not _TOKEN68.fullmatch(token):
            raise UserError(f"{TOKEN} has characters in it that no token has", "look for a space, a line end or quotes")
        return {"Authorization": f"Bearer {token}"}
    if bool(user) != bool(password):
        missing = PASSWORD if user else USER
        raise UserError(f"{missing} is not set, but {USER if user else PASSWORD} is", "set both, or none")
    if not user:
        user, password = _from_netrc(host)
    if not user:
        return {}
    from base64 import b64encode

    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def _from_netrc(host: str) -> tuple[str, str]:
    """User and password for `host` in the file NETRC names, or ~/.netrc; empty if there are none."""
    from netrc import NetrcParseError, netrc

    named = os.environ.get("NETRC")
    try:
        found = netrc(named).authenticators(host)
    except FileNotFoundError:
        if named:
            raise UserError(f"{named}, which the variable NETRC names, is missing", "correct it, or unset it") from None
        return "", ""
    except (OSError, UnicodeDecodeError, NetrcParseError) as error:
        # What the parser says may quote a password.
        line = getattr(error, "lineno", None)
        where = (named or "~/.netrc") + (f", line {line}" if line else "")
        hint = "it has to be in the format of netrc, and readable to you alone (chmod 600)"
        raise UserError(f"{where}: cannot be used for the credentials of the shared cache", hint) from None
    return (found[0], found[2] or "") if found else ("", "")


def _s3(url: str, parts: SplitResult) -> Access:
    bucket, region = parts.netloc, _environment("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
    if not _BUCKET.fullmatch(bucket):
        raise UserError(f"the shared cache {url!r} names no bucket", f"the forms are {EXAMPLES}")
    endpoint = _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    if "@" in endpoint or "?" in endpoint:
        raise UserError("AWS_ENDPOINT_URL has credentials in it", ADVICE_S3)
    if _split(endpoint, "AWS_ENDPOINT_URL").scheme not in ("http", "https"):
        raise UserError(f"AWS_ENDPOINT_URL is {endpoint!r}", "it begins with http:// or https://")
    prefix = quote(parts.path.strip("/"), safe="/-_.~")
    base = "/".join(filter(None, (endpoint.rstrip("/"), bucket, prefix))) + "/"
    return Access(url, base, _signature(region), ADVICE_S3)


def _signature(region: str) -> Sign:
    """Signs requests (AWS Signature Version 4); leaves them alone if there are no keys: buckets can be public."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    session = os.environ.get("AWS_SESSION_TOKEN") or None
    if bool(key) != bool(secret):
        raise UserError("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "set both, or none")
    if any(not re.fullmatch("[!-~]*", value or "") for value in (key, secret, session)):
        raise UserError("an AWS_… variable has characters in it that no key has", "look for a space or a line end")

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Headers:
        if not key:
            return dict(headers)
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, url, dict(headers), body or b"")
        S3SigV4Auth(Credentials(key, secret, session), "s3", region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _environment(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")
