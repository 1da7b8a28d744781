"""A real Prometheus with the rules of the repository, and its promtool."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from deploy.commands import root
from tests.processes import Http, Process, clean_environment, free_port

MONITORING: Final = root() / "deploy" / "monitoring"
UNPACKED: Final = root() / ".venv" / "prometheus" / "usr" / "bin"  # by .ci/prometheus


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none, but in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        words = f"no {name} is here: `make prometheus` unpacks it"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return found


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What it says to some files."""
    return subprocess.run(
        [program("promtool"), *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )


def configured(folder: Path, key: str, target: str = "api:8000", seconds: int = 15) -> Path:
    """The configuration of the repository in a folder, with its rules and a key, to scrape a target every so often."""
    text = (MONITORING / "prometheus.yml").read_text()
    assert (text.count("api:8000"), text.count("interval: 15s")) == (1, 2)
    path = folder / "prometheus.yml"
    path.write_text(text.replace("api:8000", target).replace("interval: 15s", f"interval: {seconds}s"))
    shutil.copy(MONITORING / "alerts.yml", folder)
    (folder / "foretell.key").write_text(key)
    return path


class Prometheus(Process):
    """One that scrapes a service every second, with its data in a folder of its own."""

    def __init__(self, folder: Path, service: Http, key: str) -> None:
        self.http = Http(free_port())
        configuration = configured(folder, key, f"127.0.0.1:{service.port}", 1)
        command = [
            program("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.http.port}",
        ]
        super().__init__(command, clean_environment(), folder / "prometheus.log")
        self.await_start(self.ready, "Prometheus is ready")

    def ready(self) -> bool:
        """Whether it has read its files and answers."""
        try:
            return self.http("GET", "/-/ready", seconds=2).status == 200
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API; AssertionError with what it says if that is an error."""
        answer = self.http("GET", f"/api/v1/{path}?{urlencode(query)}")
        told = json.loads(answer.body)
        assert told["status"] == "success", told
        return told["data"]

    def values(self, expr: str) -> list[float]:
        """What an expression is now, of each series."""
        return [float(found["value"][1]) for found in self.ask("query", query=expr)["result"]]

    def alerts(self) -> dict[str, str]:
        """How far each alert is that is not quiet: pending or firing."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.ask("alerts")["alerts"]}
