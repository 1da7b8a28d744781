"""One request over a real connection: where it goes, how long it takes, how much of the answer is read."""

import contextlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.networks import networks_of
from shared.receiver import Receiver as Target
from tests.integration.receivers import Receiver, raw_server
from tests.processes import free_port
from worker.exchange import MOST_BYTES, Exchange, NotSent
from worker.lookups import Answer, Lookups, Resolve

LOOPBACK = networks_of("127.0.0.1")
HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1"}


def exchange(resolve: Resolve = socket.getaddrinfo, **values: Any) -> Exchange:
    given: dict[str, Any] = {"allowed": LOOPBACK, "timeout_seconds": 5, "tls": ssl.create_default_context()}
    given["lookups"] = Lookups(resolve)
    return Exchange(**given | values)


def post(url: str, **values: Any) -> int:
    """Send a few bytes; the status of the answer."""
    made = exchange(**values)
    return made.post(Target.parse(url, made.allowed), b'{"a":1}', HEADERS, owner="default")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


def resolver(*answers: list[str]) -> tuple[Callable[..., Answer], list[str]]:
    """A resolver that gives these addresses, another list at each call, and the names that it was asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> Answer:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    return resolve, asked


def test_body_and_headers_arrive_as_they_are(receiver: Receiver) -> None:
    status = post(receiver.url("/hook?a=%20b"))

    (got,) = receiver.got
    assert status == 200
    assert (got.path, got.body, got.headers["webhook-id"]) == ("/hook?a=%20b", b'{"a":1}', "msg_1")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_a_name_that_means_another_address_a_moment_later_changes_nothing(receiver: Receiver) -> None:
    resolve, asked = resolver(["127.0.0.1"], ["169.254.169.254"])

    status = post(receiver.url(host="rebinding.example"), resolve=resolve)

    assert (status, asked) == (200, ["rebinding.example"])
    assert receiver.got[0].headers["host"] == f"rebinding.example:{receiver.port}"


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="loopback"),
        pytest.param(["169.254.169.254"], id="metadata"),
        pytest.param(["::1"], id="loopback-in-ipv6"),
        pytest.param(["::ffff:127.0.0.1"], id="mapped"),
        pytest.param(["2002:7f00:1::"], id="6to4"),
        pytest.param(["64:ff9b::7f00:1"], id="nat64"),
        pytest.param(["8.8.8.8", "10.0.0.1"], id="one-of-several"),
        pytest.param(["fe80::1%1"], id="with-a-zone"),
    ],
)
def test_a_name_at_a_forbidden_address_is_refused_before_anything_is_sent(
    receiver: Receiver, addresses: list[str]
) -> None:
    resolve, _ = resolver(addresses)

    with pytest.raises(NotSent) as caught:
        post(f"https://hook.example:{receiver.port}/", allowed=(), resolve=resolve)

    assert receiver.got == []
    # The same of all of them, since whoever chose the name shall not learn from us where it leads.
    assert str(caught.value) == "Refused: hook.example is at an address that webhooks must not go to."
    assert caught.value.inside["address"] == str(ipaddress.ip_address(addresses[-1]))


def test_plain_http_goes_to_no_public_address_although_some_network_is_allowed() -> None:
    resolve, _ = resolver(["8.8.8.8"])

    with pytest.raises(NotSent, match="only https:// may be used") as caught:
        post("http://hook.example/", resolve=resolve)

    assert "8.8.8.8" not in str(caught.value)


def test_a_name_that_nobody_knows_is_told_in_plain_words() -> None:
    with pytest.raises(NotSent, match=r"The addresses of nobody\.invalid cannot be found"):
        post("https://nobody.invalid/")


def test_a_resolver_without_an_answer_is_told_too() -> None:
    with pytest.raises(NotSent, match="has no address"):
        post("https://hook.example/", resolve=resolver([])[0])


def test_an_address_that_nobody_answers_at_does_not_keep_from_the_next(receiver: Receiver) -> None:
    resolve, _ = resolver(["127.0.0.2", "127.0.0.1"])

    status = post(receiver.url(host="two.example"), allowed=networks_of("127.0.0.0/8"), resolve=resolve)

    assert status == 200


def test_a_closed_port_is_told_in_plain_words() -> None:
    with pytest.raises(NotSent, match=r"^Connection refused\.$"):
        post(f"http://127.0.0.1:{free_port()}/")


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    redirecting = Receiver(lambda number: 302)
    try:
        assert post(redirecting.url()) == 302
        assert [got.path for got in redirecting.got] == ["/hook"]
    finally:
        redirecting.stop()


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Receiver()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url(""))
    try:
        assert post(receiver.url()) == 200
        assert (len(receiver.got), proxy.got) == (1, [])
    finally:
        proxy.stop()


def read_request(connection: socket.socket) -> None:
    got = b""
    while b'{"a":1}' not in got:
        got += connection.recv(4096)


def drip(connection: socket.socket) -> None:
    """A byte now and then, for as long as somebody listens."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    connection.settimeout(0.05)
    while True:
        connection.sendall(b"a")
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                return


def be_silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("serve", [drip, be_silent], ids=["drips", "is-silent"])
def test_a_receiver_that_takes_its_time_is_left_in_the_end(serve: Callable[[socket.socket], None]) -> None:
    with raw_server(serve) as port, pytest.raises(NotSent, match=r"It took longer than 0\.4 s"):
        post(f"http://127.0.0.1:{port}/", timeout_seconds=0.4)


def test_a_receiver_that_is_slow_within_tls_is_left_too() -> None:
    with raw_server(be_silent) as port, pytest.raises(NotSent, match=r"It took longer than 0\.4 s"):
        post(f"https://127.0.0.1:{port}/", timeout_seconds=0.4)


def test_a_name_that_takes_too_long_to_look_up_is_not_waited_for(receiver: Receiver) -> None:
    resolve, _ = resolver(["127.0.0.1"])
    answered = threading.Event()

    def hang(*arguments: Any, **more: Any) -> Answer:
        answered.wait(60)
        return resolve(*arguments, **more)

    try:
        with pytest.raises(NotSent, match=r"^The name slow\.example could not be looked up in time\.$"):
            post(receiver.url(host="slow.example"), timeout_seconds=0.2, resolve=hang)
        assert not answered.is_set()
    finally:
        answered.set()

    assert receiver.got == []


@pytest.mark.parametrize("first", [b"103 Early Hints", b"102 Processing", b"100 Continue", b"199 Whatever"])
def test_informational_answers_are_not_the_answer(first: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        informational = b"HTTP/1.1 " + first + b"\r\nLink: </style.css>\r\n\r\n"
        connection.sendall(informational * 2)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with raw_server(serve) as port:
        assert post(f"http://127.0.0.1:{port}/") == 204


def test_informational_answers_alone_are_none() -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MOST_BYTES)

    with raw_server(serve) as port, pytest.raises(NotSent):
        post(f"http://127.0.0.1:{port}/")


def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    sent: list[int] = []

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 500 No\r\nX-Long: a\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        try:
            while True:
                sent.append(connection.send(b"x" * 65536))
        except OSError:
            sent.append(0)

    with raw_server(flood) as port:
        status = post(f"http://127.0.0.1:{port}/")

    assert status == 500
    assert sent[-1] == 0


def test_headers_without_end_are_cut() -> None:
    def headers(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 204 OK\r\n" + (b"X-Header: " + b"v" * 1000 + b"\r\n") * MOST_BYTES)

    with raw_server(headers) as port:
        assert post(f"http://127.0.0.1:{port}/") == 204


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"", "closed without an answer", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "not HTTP", id="another-protocol"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", "not HTTP", id="no-status"),
        pytest.param(b"x" * 100_000, "not HTTP", id="no-line"),
        pytest.param(b"HTTP/1.1 99999 secret\r\n\r\n", "not HTTP", id="no-such-status"),
    ],
)
def test_what_is_no_http_is_told_without_repeating_it(answer: bytes, words: str) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with raw_server(serve) as port, pytest.raises(NotSent, match=words) as caught:
        post(f"http://127.0.0.1:{port}/")

    assert "SSH" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for hook.example that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate of the receiver, is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=hook.example", "-addext", "subjectAltName=DNS:hook.example", "-keyout", str(key),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextlib.contextmanager
def tls_server(certificate: tuple[Path, Path], names: list[str | None]) -> Iterator[int]:
    """A receiver that is called by TLS; it keeps the names that it is called by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with raw_server(serve) as port:
        yield port


def test_tls_is_spoken_with_the_name_although_the_address_was_checked(certificate: tuple[Path, Path]) -> None:
    names: list[str | None] = []
    resolve, _ = resolver(["127.0.0.1"])
    with tls_server(certificate, names) as port:
        status = post(
            f"https://hook.example:{port}/",
            resolve=resolve,
            tls=ssl.create_default_context(cafile=str(certificate[0])),
        )

    assert (status, names) == (204, ["hook.example"])


def test_a_receiver_that_takes_a_request_slowly_within_tls_does_not_prolong_it(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    body, taken, over = b"x" * 40_000_000, [0], threading.Event()

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while (piece := len(secured.recv(16_384))) > 0:
                taken.append(piece)
                over.wait(0.004)  # 4 MB in a second at most

    made = exchange(
        resolver(["127.0.0.1"])[0], timeout_seconds=1, tls=ssl.create_default_context(cafile=str(certificate[0]))
    )
    with raw_server(serve) as port:
        target = Target.parse(f"https://hook.example:{port}/", LOOPBACK)
        try:
            with pytest.raises(NotSent, match="It took longer than 1 s"):
                made.post(target, body, HEADERS, owner="default")
            taken_by_then = sum(taken)
        finally:
            over.set()

    assert taken_by_then < len(body) / 2


@pytest.mark.parametrize(
    ("host", "trusted"),
    [pytest.param("hook.example", False, id="unknown-issuer"), pytest.param("other.example", True, id="another-name")],
)
def test_a_certificate_that_does_not_hold_is_refused(certificate: tuple[Path, Path], host: str, trusted: bool) -> None:
    tls = ssl.create_default_context(cafile=str(certificate[0]) if trusted else None)
    with (
        tls_server(certificate, []) as port,
        pytest.raises(NotSent, match=rf"The certificate of {host} is not accepted"),
    ):
        post(f"https://{host}:{port}/", resolve=resolver(["127.0.0.1"])[0], tls=tls)


def test_what_speaks_no_tls_is_told_in_plain_words() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with raw_server(serve) as port, pytest.raises(NotSent, match="TLS failed"):
        post(f"https://127.0.0.1:{port}/")
