"""The url of a webhook, as far as it can be checked when a job is submitted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.networks import networks_of
from shared.receiver import Receiver

ALLOWED = networks_of("127.0.0.0/8 10.1.0.0/16 ::1")


@pytest.mark.parametrize(
    ("url", "normal", "authority", "target"),
    [
        ("https://example.com", "https://example.com/", "example.com", "/"),
        ("https://Example.COM:443/a?b=c#d", "https://example.com/a?b=c", "example.com", "/a?b=c"),
        ("HTTPS://example.com.:8443/%7Ea", "https://example.com:8443/%7Ea", "example.com:8443", "/%7Ea"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
        ("https://8.8.8.8/x", "https://8.8.8.8/x", "8.8.8.8", "/x"),
        ("https://[2606:4700::1111]:444/", "https://[2606:4700::1111]:444/", "[2606:4700::1111]:444", "/"),
        ("https://my_host/?", "https://my_host/", "my_host", "/"),
    ],
)
def test_a_url_is_taken_apart(url: str, normal: str, authority: str, target: str) -> None:
    receiver = Receiver.parse(url, ())

    assert (receiver.url, receiver.authority, receiver.target) == (normal, authority, target)
    assert Receiver.parse(receiver.url, ()) == receiver


@pytest.mark.parametrize(
    ("url", "code"),
    [
        pytest.param("", "bad_length", id="empty"),
        pytest.param("https://a/" + "x" * 1991, "bad_length", id="long"),
        pytest.param("example.com/hook", "bad_scheme", id="no-scheme"),
        pytest.param("ftp://example.com/", "bad_scheme", id="ftp"),
        pytest.param("file:///etc/passwd", "bad_scheme", id="file"),
        pytest.param("gopher://example.com/_x", "bad_scheme", id="gopher"),
        pytest.param("https://", "bad_url", id="no-host"),
        pytest.param("https:///x", "bad_url", id="path-alone"),
        pytest.param("https://a b/", "bad_url", id="blank"),
        pytest.param("https://a/\r\nX: y", "bad_url", id="line-break"),
        pytest.param("https://a\t.b/", "bad_url", id="tab"),
        pytest.param("https://b\u00fccher.example/", "bad_url", id="not-ascii"),
        pytest.param("https://a\\@b/", "bad_url", id="backslash"),
        pytest.param("https://a..b/", "bad_url", id="empty-label"),
        pytest.param("https://-a/", "bad_url", id="dash-first"),
        pytest.param("https://" + "a" * 64 + ".example/", "bad_url", id="long-label"),
        pytest.param("https://%31%32%37.0.0.1/", "bad_url", id="host-in-percent"),
        pytest.param("https://[::1", "bad_url", id="open-bracket"),
        pytest.param("https://[fe80::1%25eth0]/", "bad_url", id="zone"),
        pytest.param("https://a:0/", "bad_port", id="port-0"),
        pytest.param("https://a:65536/", "bad_url", id="port-too-large"),
        pytest.param("https://a:b/", "bad_url", id="port-in-letters"),
        pytest.param("https://user@example.com/", "credentials_in_url", id="user"),
        pytest.param("https://user:secret@example.com/", "credentials_in_url", id="password"),
        pytest.param("https://@example.com/", "credentials_in_url", id="nobody"),
        pytest.param("http://example.com/", "plain_http", id="http"),
        pytest.param("http://8.8.8.8/", "plain_http", id="http-to-an-address"),
    ],
)
def test_what_can_never_be_called_is_refused_with_its_place(url: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Receiver.parse(url, ())

    assert [(fault["pointer"], fault["code"]) for fault in caught.value.errors] == [("/webhook/url", code)]
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0x7f000001", "localhost", "LOCALHOST.", "0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1"),
    ],
)
def test_a_forbidden_address_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Receiver.parse(f"https://{host}/", ())

    assert [fault["code"] for fault in caught.value.errors] == ["forbidden_address"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x",
        "https://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://a/",
    ],
)
def test_what_the_operator_allows_is_taken(url: str) -> None:
    assert Receiver.parse(url, ALLOWED).url.startswith(url.rstrip("/"))


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://10.2.0.1/", "http://10.2.0.1/"])
def test_what_lies_elsewhere_is_not_allowed_by_that(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Receiver.parse(url, ALLOWED)


@given(st.text(max_size=60).map("https://".__add__) | st.text(max_size=60))
def test_any_text_is_either_a_url_without_surprises_or_refused(text: str) -> None:
    try:
        receiver = Receiver.parse(text, ())
    except InvalidRequest:
        return
    assert receiver.url.isascii()
    assert receiver.url.isprintable()
    assert " " not in receiver.url
    assert 1 <= receiver.port <= 65535
