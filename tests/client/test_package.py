"""The package by itself: what it loads, what it holds, and what is no service."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from foretell import Client, Unreachable

from deploy.commands import root

HEAVY = ("numpy", "pandas", "polars", "pyarrow", "skops", "sklearn", "foretell.cli")


def test_who_imports_the_client_loads_nothing_that_only_some_need() -> None:
    code = f"import foretell, sys; print([name for name in {HEAVY} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert loaded.stdout == "[]\n"


def test_a_wheel_has_the_types_and_the_command(tmp_path: Path) -> None:
    build = f"import flit_core.buildapi as b; b.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=root() / "client", capture_output=True, check=True, timeout=60)

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"foretell/py.typed", "foretell/cli/root.py", "foretell-0.1.0.dist-info/entry_points.txt"} <= set(names)


class Other(BaseHTTPRequestHandler):
    """Some other service."""

    def do_GET(self) -> None:
        moved = self.path == "/models"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "https://login.example.com/")
        self.end_headers()
        if not moved:
            self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_answers_and_is_no_service_is_said(elsewhere: str) -> None:
    with Client(elsewhere) as client:
        with pytest.raises(Unreachable, match=r"leads to https://login\.example\.com/"):
            client.models()
        with pytest.raises(Unreachable, match="no Foretell; it begins with '<html>Welcome"):
            client.model("home")
