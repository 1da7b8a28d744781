"""A stored file as an answer: whole, a range of it, or nothing if the client has it already (RFC 9110, 13 and 14)."""

import base64
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from flask import Request, Response
from werkzeug.http import parse_etags

from api.errors import RequestFault, problem
from api.places import Place, Places
from shared.storage import Storage

RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)
# The file itself is compressed, and stays so when it is saved: that is no Content-Encoding.
PACKED: Final[Mapping[str, str]] = {"gzip": "application/gzip", "zstd": "application/zstd"}
# Bytes asked for past any file's end.
MOST_DIGITS: Final = 18


def served_type(output: Mapping[str, Any]) -> str:
    """The media type of an output file."""
    return PACKED.get(output.get("encoding") or "", output["media_type"])


def serve(storage: Storage, output: Mapping[str, Any], request: Request, places: Places) -> Response:
    """An output file, {key, name, media_type, encoding, bytes, sha256}, as the request asks for it.

    `places`: one is taken until the file is sent.

    Raises:
        RequestFault: 412.
        TooManyDownloads
        FileMissing, StorageFailed
    """
    size, etag = int(output["bytes"]), f'"{output["sha256"]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    # In the order of RFC 9110, section 13.2.2; what is stored never changes, so there are no dates to compare.
    if "If-Match" in request.headers and not parse_etags(request.headers["If-Match"]).contains(output["sha256"]):
        raise RequestFault(412, "precondition_failed", f"If-Match names another version; this is {etag}.")
    if "If-None-Match" in request.headers and parse_etags(request.headers["If-None-Match"]).contains_weak(
        output["sha256"]
    ):
        return Response(status=304, headers=headers)
    asked = wanted_range(request, etag, size)
    if asked is not None and asked[0] >= asked[1]:
        response = problem(416, "range_not_satisfiable", f"The file has {size} bytes; ask for some of them.")
        response.headers["Content-Range"] = f"bytes */{size}"
        return response
    start, stop = asked or (0, size)
    headers |= {
        "Content-Type": _with_charset(served_type(output)),
        "Content-Length": str(stop - start),
        "Content-Disposition": attachment(output["name"]),
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(output['sha256'])).decode()}:",
    }
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
    if request.method == "HEAD":
        return Response(iter(()), status=status, headers=headers)
    return sent(lambda: storage.blocks(output["key"], start, stop), places, headers=headers, status=status)


def sent(
    blocks: Callable[[], Iterator[bytes]], places: Places, *, headers: Mapping[str, str], status: int = HTTPStatus.OK
) -> Response:
    """What `blocks` gives, sent as it comes; one of `places` is taken until it is.

    Raises:
        TooManyDownloads, and whatever the first block raises
    """
    place = places.take()
    try:
        begun = _begun(blocks())
    except BaseException:
        place.give_back()
        raise
    response = Response(_until_sent(begun, place), status=status, headers=dict(headers))
    response.call_on_close(place.give_back)  # of a client that left
    return response


def wanted_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that Range asks for, empty if the file has none of them; None for the whole file.

    Several ranges, other units, what cannot be understood, and any Range of a file that changed since (If-Range) are
    answered with the whole file, as RFC 9110, section 14.2, lets a server do.
    """
    found = RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or request.method != "GET" or size == 0:
        return None
    if request.headers.get("If-Range", etag).strip() != etag:
        return None
    first, last = (int(text[:MOST_DIGITS]) if text else None for text in found.groups())
    if first is None:
        return None if last is None else (max(0, size - last), size)
    if last is None:
        return first, size
    return None if last < first else (first, min(last + 1, size))


def attachment(name: str) -> str:
    """Content-Disposition with a file name (RFC 6266), in ASCII too for clients that know no other."""
    plain = "".join(character if character.isascii() and character.isprintable() else "_" for character in name)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{quoted}"{extended}'


def _with_charset(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _until_sent(blocks: Iterator[bytes], place: Place) -> Iterator[bytes]:
    yield from blocks
    place.give_back()


def _begun(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, of which the first has been read, so that what fails at once is an error and no broken file."""
    return itertools.chain([next(blocks, b"")], blocks)
