"""deploy/compose.s3.yml beside docker-compose.yml: a server for files, confined like the others, that they all use."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from deploy.commands import root
from shared.settings import load_settings
from tests.contract.test_compose_file import COMPOSE_TEXT, SECRET_VALUE, parse
from tests.kept import short_folder
from tests.processes import Process, clean_environment, free_port
from tests.wait import until

TEXT = (root() / "deploy" / "compose.s3.yml").read_text()
Service = dict[str, Any]
KEY = {"AWS_ACCESS_KEY_ID": "foretell", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests"}


@pytest.fixture(scope="module")
def before() -> dict[str, Service]:
    return dict(parse(COMPOSE_TEXT)["services"])


@pytest.fixture(scope="module")
def added() -> dict[str, Service]:
    return dict(parse(TEXT)["services"])


def test_everything_that_reads_or_writes_files_uses_it_and_waits_for_it(
    before: dict[str, Service], added: dict[str, Service]
) -> None:
    ours = {name for name, service in before.items() if "build" in service} - {"scheduler"}

    assert set(added) == ours | {"s3", "s3-folder"}
    for name in ours:
        service = added[name]
        settings = load_settings({**before[name]["environment"], **service["environment"]})
        assert set(service) == {"env_file", "environment", "depends_on"}
        assert settings.storage == "s3://foretell/files"
        assert service["environment"]["AWS_ENDPOINT_URL"] == "http://s3:8333"
        assert service["depends_on"]["s3"]["condition"] == "service_healthy"
        assert service["env_file"] == added["s3"]["env_file"]


def test_its_key_is_in_no_file_of_the_repository(added: dict[str, Service]) -> None:
    assert added["s3"]["env_file"] == ["deploy/s3.env"]
    assert "/deploy/s3.env" in (root() / ".gitignore").read_text().splitlines()
    assert "deploy/s3.env" in (root() / ".dockerignore").read_text().splitlines()
    assert not SECRET_VALUE.search(TEXT)


@pytest.mark.parametrize("name", ["s3", "s3-folder"])
def test_it_is_confined_like_the_others(added: dict[str, Service], name: str) -> None:
    service = added[name]

    assert service["user"] == "10001:10001"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert "ports" not in service


def test_its_volume_belongs_to_it(added: dict[str, Service]) -> None:
    (volume,) = added["s3"]["volumes"]

    assert added["s3-folder"]["volumes"] == ["s3-data:/var/lib/foretell"]
    assert (volume["source"], volume["volume"]) == ("s3-data", {"nocopy": True})
    assert added["s3"]["depends_on"]["s3-folder"]["condition"] == "service_completed_successfully"


@pytest.fixture(scope="module")
def endpoint(added: dict[str, Service]) -> Iterator[str]:
    """The server as the file starts it, with a folder and free ports of this machine in place of the container's."""
    with short_folder() as folder:
        port = free_port()
        here = {"-dir=/data": f"-dir={folder}", "-s3.ip.bind=0.0.0.0": "-s3.ip.bind=127.0.0.1"}
        options = [f"-s3.port={port}", *(f"-{name}.port={free_port()}" for name in ("master", "volume", "filer"))]
        options += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
        options += [f"-{name}.localSocket={folder / name}.sock" for name in ("filer", "s3")]
        command = [here.get(word, word) for word in added["s3"]["command"]]
        server = Process([weed(added), *command, *options], clean_environment() | KEY, folder / "s3.log")
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: is_healthy(added["s3"], address), 60, what="S3 answers its health check")
            yield address
        finally:
            server.kill()
            server.stop()


def weed(added: dict[str, Service]) -> str:
    """The program of the image, as the package for tests has it."""
    (name,) = added["s3"]["entrypoint"]
    return str(Path(sys.executable).with_name(name))


def is_healthy(service: Service, address: str) -> bool:
    """Whether what the health check asks for is answered."""
    url = service["healthcheck"]["test"][-1].replace("http://127.0.0.1:8333", address)
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # of this machine
            return bool(answer.status == 200)
    except OSError:
        return False


def store(address: str, secret: str) -> S3Store:
    return S3Store(
        "foretell",
        access_key_id=KEY["AWS_ACCESS_KEY_ID"],
        secret_access_key=secret,
        region="us-east-1",
        endpoint=address,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def test_it_takes_files_into_a_bucket_that_nobody_has_made(endpoint: str) -> None:
    files = store(endpoint, KEY["AWS_SECRET_ACCESS_KEY"])

    def kept() -> bool:
        try:
            obstore.put(files, "files/a", b"rows")
        except obstore.exceptions.BaseError:
            return False
        return True

    until(kept, 60, what="the first file is kept")
    assert bytes(obstore.get(files, "files/a").bytes()) == b"rows"


def test_it_asks_for_its_key(endpoint: str) -> None:
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(store(endpoint, "another"), "files/b", b"rows")


def test_the_command_that_makes_the_key_makes_one_that_nobody_else_reads(tmp_path: Path) -> None:
    (command,) = [line.removeprefix("#   ") for line in TEXT.splitlines() if "printf" in line]
    (tmp_path / "deploy").mkdir()

    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)

    made = tmp_path / "deploy" / "s3.env"
    names = [line.partition("=")[0] for line in made.read_text().splitlines()]
    assert names == list(KEY)
    assert made.stat().st_mode & 0o077 == 0
