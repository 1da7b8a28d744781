"""A RabbitMQ as a process, where one is installed: `make rabbitmq`."""

import base64
import contextlib
import http.client
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import kombu
import psutil
import pytest

from tests.processes import Process, clean_environment, free_port
from tests.wait import until

# Where Debian puts it; the script on PATH changes the user and the folders.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


# Which broker the services of tests have, unless they name one: "rabbitmq", or that of Redis.
CHOICE: Final = "TEST_BROKER"


class RabbitMQ:
    """A RabbitMQ with files and ports of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Start it; `settings` are some of Erlang's application `rabbit`, as in `consumer_timeout="3000"`."""
        epmd = shutil.which("epmd")
        if epmd is None or not SERVER.exists():
            words = "no RabbitMQ is installed here: make rabbitmq"
            if is_chosen() or os.environ.get("CI") == "true":
                pytest.fail(words)
            pytest.skip(words)
        self.folder = folder
        self._hosts = itertools.count(1)
        self.port, self.management_port = free_port(), free_port()
        epmd_port, node_port = free_port(), free_port()
        given = "".join(f" -rabbit {name} {value}" for name, value in settings.items())
        self._environment = clean_environment() | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"foretell{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(node_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+sbwt none +sbwtdcpu none +sbwtdio none{given}",
        }
        (folder / "plugins").write_text("[rabbitmq_management].")
        (folder / "rabbitmq.conf").write_text(
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
        )
        # Started by itself it would outlive the server.
        names = [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"]
        self._epmd = Process(names, clean_environment(), folder / "epmd.log")
        self.start()

    @property
    def url(self) -> str:
        """As FORETELL_BROKER_URL takes it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def url_of_its_own(self) -> str:
        """The same for a virtual host that nobody else has."""
        host = f"service{next(self._hosts)}"
        self.manage("PUT", f"vhosts/{host}")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{host}"

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request to its management, which must succeed; what it answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.management_port, timeout=30)
        login = base64.b64encode(b"guest:guest").decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request(method, f"/api/{path}", json.dumps(body or {}), headers)
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text!r}"
        return json.loads(text) if text else None

    def queues(self, url: str) -> dict[str, str]:
        """The queues of a virtual host, each with its type."""
        host = quote(kombu.Connection(url).virtual_host, safe="")
        return {queue["name"]: queue["type"] for queue in self.manage("GET", f"queues/{host}")}

    def start(self) -> None:
        """Start it, on the files that it had before."""
        self.server = Process([str(SERVER)], self._environment, self.folder / "rabbitmq.log")
        try:
            until(self._answers, 90, "RabbitMQ answers")
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """kill -9 of it and of all that it started."""
        for process in self.server.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.server.kill()

    def stop(self) -> None:
        """End it at once: nobody needs its files."""
        self.kill()
        self.server.stop()
        self._epmd.stop()

    def _answers(self) -> bool:
        with kombu.Connection(self.url, connect_timeout=2) as connection:
            try:
                connection.connect()
                self.manage("GET", "vhosts")
            except (*connection.connection_errors, http.client.HTTPException):  # type: ignore[misc]
                return False
        return True


_shared: list[RabbitMQ] = []


def is_chosen() -> bool:
    """Whether tests are to go through a RabbitMQ."""
    return os.environ.get(CHOICE) == "rabbitmq"


def chosen_broker() -> dict[str, str]:
    """The settings of a broker for one service, if tests are to go through a RabbitMQ: a virtual host of its own."""
    if not is_chosen():
        return {}
    if not _shared:
        _shared.append(RabbitMQ(Path(tempfile.mkdtemp(prefix="ft-rabbitmq-"))))
    return {"broker_url": _shared[0].url_of_its_own()}


def end_chosen_broker() -> None:
    """End it, if it was started."""
    for server in _shared:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
    _shared.clear()
