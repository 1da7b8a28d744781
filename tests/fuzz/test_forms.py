"""Multipart forms of any bytes, in blocks cut anywhere: the same parts, or the same refusal, in bounded memory."""

from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from flask import Flask, Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from api.errors import RequestFault
from api.forms import parts
from tests.fuzz.mutations import damaged, pieces
from tests.fuzz.profile import examples

BOUNDARY: Final = "a9f3"
WHOLE: Final = (
    b'--a9f3\r\nContent-Disposition: form-data; name="job"\r\nContent-Type: application/json\r\n\r\n{"model":"m"}\r\n'
    b'--a9f3\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\nContent-Type: text/csv\r\n'
    b"Content-MD5: qEvnsTHizB6WHnnFUicLGg==\r\n\r\na,b\r\n1,2\r\n--a9f\r\n\r\n--a9f3--\r\nepilogue"
)
WORDS: Final = (
    *(
        b"--a9f3",
        b"--a9f3--",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"a9f3",
        b"\r\n--a9f3\r\n",
        b"\r\n--a9f3--\r\n",
        b":",
    ),
    *(
        b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
        b"Content-Disposition: form-data; name=a\r\n",
    ),
    *(
        b"Content-Disposition: form-data; name*=utf-8''%ff; filename*=utf-8''%00\r\n\r\n",
        b"Content-Type: a/b\r\n",
        b"x" * 70,
    ),
    *(
        b"Content-Disposition: form-data\r\n\r\n",
        b"\xff",
        b"\x00",
        b" ",
        b"-",
        b"a,b\n1,2\n",
        b"Content-MD5: x\r\n",
        b'name="',
        b";",
    ),
)
anything = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=30).map(b"".join)
forms = anything | anything.map(lambda data: b"--a9f3\r\n" + data) | damaged([WHOLE])

Found = list[tuple[str, str | None, str, bytes]] | tuple[int, str]


def found(blocks: Iterable[bytes], content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> Found:
    """The parts, or the status and code of the refusal; what came before it does not matter."""
    request = Request(EnvironBuilder(method="POST").get_environ() | {"CONTENT_TYPE": content_type})
    with Flask("test").app_context():
        try:
            return [
                (part.name, part.file_name, part.media_type, b"".join(part.blocks))
                for part in parts(request, iter(blocks))
            ]
        except RequestFault as error:
            return error.status, error.code


@given(st.data(), forms)
@examples(400)
def test_a_form_of_any_bytes_is_the_same_wherever_it_is_cut(data: st.DataObject, body: bytes) -> None:
    whole = found([body])

    cut = found(data.draw(pieces(body)))
    bytewise = found(body[at : at + 1] for at in range(len(body)))

    assert cut == bytewise == whole
    assert isinstance(whole, list) or whole[0] in (400, 415)


@given(st.binary(max_size=60), st.data())
@examples(150)
def test_any_file_comes_out_of_a_form_as_it_went_in(content: bytes, data: st.DataObject) -> None:
    head = b'--a9f3\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    if b"\r\n--a9f3" in b"\r\n" + content:
        return

    came = found(data.draw(pieces(head + content + b"\r\n--a9f3--\r\n")))

    assert came == [("file", "x", "", content)]


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
@examples(100)
def test_a_boundary_of_any_characters_is_taken_or_refused(boundary: str) -> None:
    for content_type in (f"multipart/form-data; boundary={boundary}", f'multipart/form-data; boundary="{boundary}"'):
        came = found([WHOLE], content_type)

        assert isinstance(came, list) or came[0] in (400, 415)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_a_closing_boundary_that_comes_byte_by_byte_adds_nothing_to_the_file(step: int) -> None:
    body = b'--a9f3\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nPAR1\r\n--a9f3--\r\nepilogue'

    came = found(body[at : at + step] for at in range(0, len(body), step))

    assert came == [("file", "x", "", b"PAR1")]


def endless() -> Iterator[bytes]:
    """A form whose headers never end."""
    yield b"--a9f3\r\n"
    for number in range(100_000):
        yield b"X-%d: " % number + b"x" * 1000 + b"\r\n"
    raise AssertionError("the headers were read to their end")


def test_headers_that_never_end_are_refused_before_they_fill_the_memory() -> None:
    assert found(endless()) == (400, "malformed_form")
