"""A multipart form (RFC 7578), part by part, as it comes: no part is held in memory or in a temporary file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from api.digests import Digests
from api.errors import RequestFault
from api.uploads import BLOCK_BYTES
from shared.errors import InvalidRequest

# Blanks between a boundary and its line break (RFC 2046, section 5.1.1), of which nobody sends any.
LONGEST_PADDING: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part; its blocks can be read until the next part is asked for, and are compared with its own digests."""

    name: str
    file_name: str | None
    media_type: str
    blocks: Iterator[bytes]


def parts(request: Request, blocks: Iterator[bytes]) -> Iterator[Part]:
    """The parts in the order in which they come.

    Raises:
        RequestFault: 400 where the form is not well-formed or is cut off, and whatever reading the blocks raises.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise RequestFault(415, "unsupported_media_type", "multipart/form-data needs a boundary in its Content-Type.")
    # What is held is never more than a block, but for headers: those of a part, and what is before and after all parts.
    decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=4 * BLOCK_BYTES)
    return _parts(_events(decoder, _whole_boundaries(blocks, b"--" + boundary.encode())))


def _parts(events: Iterator[Event]) -> Iterator[Part]:
    for event in events:
        if isinstance(event, (Field, File)):
            data = _data(events, Digests(event.headers))
            yield Part(
                name=event.name or "",
                file_name=event.filename if isinstance(event, File) else None,
                media_type=event.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
                blocks=data,
            )
            for _ in data:
                pass  # what its reader did not want


def small(part: Part, most_bytes: int) -> bytes:
    """A whole part that is no file.

    Raises:
        RequestFault: 413.
    """
    body = bytearray()
    for block in part.blocks:
        body += block
        if len(body) > most_bytes:
            detail = f"The part {part.name} is larger than the {most_bytes} bytes that are allowed."
            raise RequestFault(413, "body_too_large", detail)
    return bytes(body)


def refused_part(name: str, known: tuple[str, ...]) -> InvalidRequest:
    """The error for a part that is not taken, or that was there before."""
    twice = name in known
    message = f"The part {name[:100]!r} is there twice." if twice else f"There is no part {name[:100]!r}"
    if not twice:
        message += f"; send {' and '.join(known)}."
    return InvalidRequest(message, errors=[{"code": "duplicate_part" if twice else "unknown_part", "message": message}])


def missing_part(name: str) -> InvalidRequest:
    """The error for a part that did not come."""
    message = f"The part {name} is missing."
    return InvalidRequest(message, errors=[{"code": "missing_part", "message": message}])


def _whole_boundaries(blocks: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
    """The same bytes, cut elsewhere: a boundary comes with the line break before it and with what follows it.

    Werkzeug 3.1 would take the CR before a boundary that is cut for the last byte of the part, and the line break after
    the headers of a part without a body for its body's beginning.
    """
    # A boundary with its line break, or with the dashes of the last one; `open` where these have not come yet.
    mark = re.compile(re.escape(boundary) + rb"(?:--|(?P<open>-|[^\S\r\n]*\r?)\Z|[^\S\r\n]*(?:\r\n?|\n))?")
    rest = b""
    for block in blocks:
        rest += block
        *_, last = (None, *mark.finditer(rest, max(0, len(rest) - len(boundary) - LONGEST_PADDING)))
        if last is not None and last["open"] is not None:
            decided, stop = 0, last.start()
        else:
            decided = 0 if last is None else last.end()
            stop = len(rest) - _begun(rest[decided:], boundary)
        stop -= 2 if rest[max(0, stop - 2) : stop] == b"\r\n" else rest[max(0, stop - 1) : stop] in (b"\r", b"\n")
        stop = max(stop, decided)
        if stop > 0:
            yield rest[:stop]
            rest = rest[stop:]
    yield rest


def _begun(data: bytes, boundary: bytes) -> int:
    """How many bytes at the end of the data may be the beginning of a boundary."""
    longest = min(len(data), len(boundary) - 1)
    return next((length for length in range(longest, 0, -1) if data.endswith(boundary[:length])), 0)


def _events(decoder: MultipartDecoder, blocks: Iterator[bytes]) -> Iterator[Event]:
    for block in blocks:
        yield from _decoded(decoder, block)
    yield from _decoded(decoder, None)


def _decoded(decoder: MultipartDecoder, block: bytes | None) -> Iterator[Event]:
    event: Event | None = None
    try:
        decoder.receive_data(block)
        while not isinstance(event, Epilogue):
            event = decoder.next_event()
            if isinstance(event, NeedData):
                return
            yield event
    except RequestEntityTooLarge as error:  # of the decoder's buffer, which only headers can fill
        raise RequestFault(400, "malformed_form", "A part of the form has too long headers.") from error
    except ValueError as error:
        if block is None and decoder.state is not State.COMPLETE:
            raise RequestFault(400, "incomplete_body", "The form ends before its closing boundary.") from error
        raise RequestFault(400, "malformed_form", f"The form is not well-formed: {error}.") from error


def _data(events: Iterator[Event], digests: Digests) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            if event.data:
                digests.update(event.data)
                yield event.data
            if not event.more_data:
                break
    digests.check()
