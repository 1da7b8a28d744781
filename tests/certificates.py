"""Certificates of the tests' own authorities, made by openssl, and a server that speaks TLS for one that does not."""

import contextlib
import selectors
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kombu
import pytest

from shared.queue import make_celery
from shared.settings import Settings
from tests.processes import free_port


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate with its key, and who has signed it."""

    cert: Path
    key: Path
    ca: Path


def make_certificate(folder: Path, authority: str, name: str) -> Certificate:
    """A certificate for loopback, signed by an authority that is made with its first one."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here, so there are no certificates to try TLS with")
    ca, ca_key = folder / f"{authority}.pem", folder / f"{authority}.key"
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    if not ca.exists():
        _openssl(*new, "-keyout", str(ca_key), "-out", str(ca), "-subj", f"/CN={authority}")
    _openssl(
        *new, "-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}", "-CA", str(ca), "-CAkey", str(ca_key),
        "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    return Certificate(cert=cert, key=key, ca=ca)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def connects(settings: Settings) -> bool:
    """Whether Celery gets a connection to its broker."""
    with make_celery(settings).connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except kombu.exceptions.OperationalError:
            return False
    return True


class TlsServer:
    """Takes TLS connections on a port of loopback and hands on what is said to a plain port, and back."""

    def __init__(self, plain_port: int, certificate: Certificate, *, clients: Path | None = None) -> None:
        """`clients`: who must have signed the certificate that a client shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        self.port = free_port()
        self._context = context
        self._plain_port = plain_port
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: set[socket.socket] = {self._listener}
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """End every connection."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._secured(client) as secured:
            server = socket.create_connection(("127.0.0.1", self._plain_port))
            with server:
                self._open |= {secured, server}
                self._hand_on(secured, server)

    @contextlib.contextmanager
    def _secured(self, client: socket.socket) -> Iterator[ssl.SSLSocket]:
        with client, self._context.wrap_socket(client, server_side=True) as secured:
            yield secured

    def _hand_on(self, secured: ssl.SSLSocket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(secured, selectors.EVENT_READ, (secured, server))
            selector.register(server, selectors.EVENT_READ, (server, secured))
            while True:
                # What TLS has decrypted already is not seen by the selector.
                ready = [key.data for key, _ in selector.select()]
                for source, target in ready:
                    while True:
                        data = source.recv(65536)
                        if not data:
                            return
                        target.sendall(data)
                        if not (source is secured and secured.pending()):
                            break
