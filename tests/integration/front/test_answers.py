"""Each request is answered by the loop as by the web server alone."""

import http.client
import re
import socket
from typing import Final

import pytest

from tests.integration.front.clients import Answer, Running, raw, submit
from tests.integration.test_shortcut import REQUESTS, VARYING, Sent

UNKNOWN: Final = "/jobs/01a219cb-5970-7a73-9416-705b08a22ab8"
# More is announced there than comes.
CUT_OFF: Final = {"rows that are cut off", "rows that are announced to be endless"}
# What servers add of themselves.
OWN_FIELDS: Final = {"server", "date", "connection"}


@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - CUT_OFF))
def test_each_request_is_answered_as_by_the_web_server_alone(name: str, running: Running) -> None:
    sent = REQUESTS[name]
    place = running.connect().ask(submit()).fields["location"]
    request = as_bytes(sent, place)

    answer = running.connect().ask(request, sent.method)

    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(20)
        other.connect(running.path)
        other.sendall(request)
        response = http.client.HTTPResponse(other, method=sent.method)
        response.begin()
        fields = {field.lower(): value for field, value in response.getheaders()}
        assert compared(answer) == compared(Answer(response.status, fields, response.read()))


def as_bytes(sent: Sent, place: str) -> bytes:
    fields = [f"{name}: {value}" for name, value in sent.headers.items()]
    if sent.body is not None and "Content-Type" not in sent.headers:
        fields.append("Content-Type: application/json")
    if sent.body == b"":
        fields.append("Content-Length: 0")
    return raw(sent.method, sent.path.format(job=place, gone=UNKNOWN), sent.body or b"", *fields)


def compared(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What can be compared."""
    fields = {
        name: re.sub(VARYING, b"*", value.encode()).decode()
        for name, value in answer.fields.items()
        if name not in OWN_FIELDS
    }
    return answer.status, fields, VARYING.sub(b"*", answer.body)
