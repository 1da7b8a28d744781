"""The network of the chaos suite: each way in which it breaks, as the two ends see it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.network import Link, Network
from tests.wait import until


class Echo:
    """A server on loopback that answers each block with itself."""

    def __init__(self) -> None:
        self.heard = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._listening.shutdown(socket.SHUT_RDWR)  # else it listens on while a thread accepts
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.heard += data
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    network = Network()
    yield network.link("client to echo", echo.port)
    network.close()


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    """A connection that has carried something."""
    with connected(link) as connection:
        assert answer(connection, b"hello") == b"hello"
        yield connection


def connected(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def answer(connection: socket.socket, sent: bytes) -> bytes:
    connection.sendall(sent)
    return connection.recv(65_536)


def broken(connection: socket.socket) -> bool:
    """Whether the other end has reset or closed it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def silent(connection: socket.socket) -> bool:
    """Whether nothing comes for a moment, and the connection stays."""
    connection.settimeout(0.3)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_a_cut_ends_the_connections_that_are_open_and_no_others(link: Link, client: socket.socket) -> None:
    link.cut()

    assert broken(client)
    with connected(link) as another:
        assert answer(another, b"again") == b"again"


def test_connections_are_refused_until_it_is_healed(link: Link, client: socket.socket) -> None:
    link.refuse()

    assert broken(client)
    with pytest.raises(ConnectionRefusedError):
        connected(link)
    link.heal()
    with connected(link) as another:
        assert answer(another, b"again") == b"again"


def test_what_is_sent_into_a_half_open_connection_comes_when_it_is_healed(
    link: Link, client: socket.socket, echo: Echo
) -> None:
    link.stall()
    client.sendall(b"late")

    assert silent(client)
    assert echo.heard == b"hello"
    link.heal()
    assert client.recv(100) == b"late"


def test_a_lost_answer_was_heard_by_the_server(link: Link, client: socket.socket, echo: Echo) -> None:
    link.mute()
    client.sendall(b"order")

    until(lambda: echo.heard == b"helloorder", what="the server hears it")
    assert silent(client)
    link.heal()
    assert broken(client)


def test_an_answer_is_broken_off_in_the_middle(link: Link, client: socket.socket) -> None:
    link.truncate(1)
    client.sendall(b"12345678")

    assert client.recv(100) == b"1234"
    assert broken(client)
    with connected(link) as another:
        assert answer(another, b"whole") == b"whole"


def test_a_delay_is_over_when_it_is_healed(link: Link, client: socket.socket) -> None:
    link.delay(1.0)
    client.sendall(b"slow")

    assert silent(client)
    assert client.recv(100) == b"slow"
    link.heal()
    assert answer(client, b"quick") == b"quick"


def test_a_target_that_is_away_resets_its_clients(echo: Echo, link: Link) -> None:
    echo.close()

    # The reset may come before we know that we are connected, or after.
    with pytest.raises(ConnectionResetError), connected(link) as connection:
        connection.recv(1)


def test_a_closed_network_leaves_no_port_and_no_connection(echo: Echo) -> None:
    network = Network()
    link: Any = network.link("client to echo", echo.port)
    with connected(link) as connection:
        assert answer(connection, b"hello") == b"hello"
        network.close()

        assert broken(connection)
    with pytest.raises(ConnectionRefusedError):
        connected(link)
