"""Requests that are answered by the loop itself, read from the bytes of a connection.

Only what is plain in every way is read here. The rest is granian's, byte by byte from its first, so what a request is
and where it ends is never seen in two ways.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any, Final, NamedTuple

# Request lines (RFC 9112, section 3) of the two.
SUBMIT: Final = b"POST /jobs HTTP/1.1"
LOOK: Final = re.compile(rb"GET (/jobs/[0-9a-f-]{36}) HTTP/1\.1")
# A field line (RFC 9112, section 5) of a name that is only one in the WSGI environment, and a value that can be seen.
FIELD: Final = re.compile(rb"([A-Za-z0-9-]+):([\x20-\x7e\t]*)")
LENGTH: Final = re.compile(r"[0-9]{1,18}")
END: Final = b"\r\n\r\n"
MOST_HEAD_BYTES: Final = 2**14
MOST_BODY_BYTES: Final = 2**16
MOST_REMEMBERED: Final = 256
# With these, more is asked for than an answer.
MORE: Final = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE", "HTTP_TRAILER", "HTTP_TE"})


class Request(NamedTuple):
    """A whole request."""

    fields: Mapping[str, str]  # header fields, as the WSGI environment has them
    method: str
    path: str
    body: bytes
    size_bytes: int  # of all of it
    closes: bool  # the client wants no further answer


class Other(Exception):
    """It is none of the two."""


def read_request(data: bytes | bytearray) -> Request | None:
    """The request that the bytes begin with; None if more of it has to come.

    Raises:
        Other
    """
    end = data.find(END)
    if end < 0:
        if len(data) > MOST_HEAD_BYTES or not _may_begin(data):
            raise Other
        return None
    line, _, lines = bytes(data[:end]).partition(b"\r\n")
    method, path = _asked(line)
    fields = _fields(lines) if end <= MOST_HEAD_BYTES else None
    if fields is None:
        raise Other
    length = fields.get("CONTENT_LENGTH", "0")
    if not LENGTH.fullmatch(length) or int(length) > MOST_BODY_BYTES or (method == "GET" and int(length)):
        raise Other
    begin = end + len(END)
    size_bytes = begin + int(length)
    if len(data) < size_bytes:
        return None
    closes = fields.get("HTTP_CONNECTION", "").lower() == "close"
    return Request(fields, method, path, bytes(data[begin:size_bytes]), size_bytes, closes)


def environ_of(request: Request) -> dict[str, Any]:
    """The WSGI environment (PEP 3333) of a request."""
    return {
        **request.fields,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(request.body),
    }


def _may_begin(data: bytes | bytearray) -> bool:
    """Whether one of the two may begin so."""
    line = bytes(data[: len(SUBMIT)])
    return SUBMIT.startswith(line) or b"GET /jobs/".startswith(line[:10])


def _asked(line: bytes) -> tuple[str, str]:
    if line == SUBMIT:
        return "POST", "/jobs"
    look = LOOK.fullmatch(line)
    if look is None:
        raise Other
    return "GET", look[1].decode()


@lru_cache(MOST_REMEMBERED)
def _fields(lines: bytes) -> Mapping[str, str] | None:
    """Header fields; None for what is not read here. A client sends the same ones again and again."""
    fields: dict[str, str] = {}
    for line in lines.split(b"\r\n"):
        found = FIELD.fullmatch(line)
        if found is None:
            return None
        name = found[1].decode().upper().replace("-", "_")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        if key in fields:
            return None
        fields[key] = found[2].decode().strip(" \t")
    connection = fields.get("HTTP_CONNECTION", "keep-alive").lower()
    plain = MORE.isdisjoint(fields) and "HTTP_HOST" in fields and connection in ("keep-alive", "close")
    return fields if plain else None
