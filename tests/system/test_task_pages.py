"""The commands of the pages for tasks, typed as they stand there, on one service, in any order of the pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.commands import root
from docs.pages import documents
from shared.keys import Keys
from tests.documents import blocks, keep_programs, steps, typed
from tests.kept import Kept, short_folder, started_again
from tests.processes import clean_environment, free_port
from tests.system.service import Service
from tests.wait import until

PAGES = ("batch-files", "retraining", "models", "http-api", "webhooks", "operations", "security", "metrics")
# Typed by tests of their own.
OTHERS = {
    "README.md": "test_readme.py",
    "docs/protocols.md": "test_protocols_page.py",
    "docs/cli.md": "../client/test_documents.py",
    "client/README.md": "../client/test_documents.py",
    "docs/quickstart.md": "test_quickstarts.py",
    **{f"docs/quickstart/{path.name}": "test_quickstarts.py" for path in (root() / "docs/quickstart").glob("*.md")},
}
# Commands in blocks of the language `shell-session`: what they have in them, and why no test types them.
UNTYPED = {
    "docs/batch-files.md": {
        "diff undisturbed.json": "minutes, and kills by hand; tests/integration/test_batch_crashes.py compares bytes",
        "model=moody": "a model that ends its process, which is one of the tests",
        "benchmarks.cutting": "a measurement",
        "AWS_ACCESS_KEY_ID": "a store on S3, and another service",
        "storage_full": "a disk that is full",
    },
    "docs/capacity.md": {"benchmarks.profile": "a measurement"},
    "docs/deployment.md": {
        "compose.s3.yml": "containers; tests/contract/test_compose_s3.py runs its server",
        "docker push": "containers, and a registry",
        "create namespace": "a cluster",
        "helm install": "a cluster; tests/contract/test_chart.py renders what would be installed",
        "keys create keda": "a cluster",
        "keda.enabled": "a cluster with KEDA",
        "api.tag=": "a cluster",
        "systemd-sysusers": "root on a machine with systemd; tests/contract/test_systemd.py verifies the units",
        "list-units": "a machine with systemd",
        "foretell-scheduler && ": "a machine with systemd, and a newer release",
    },
    "docs/tracing.md": {
        "docker run": "a container of Jaeger",
        "make tracing": "installs packages, and another service; test_tracing.py has one with a collector",
        "docker compose build": "an image",
    },
    "docs/reliability.md": {"make chaos": "breaks everything for minutes; tests/system/test_chaos.py has a short form"},
}
# Which programs of another page a page speaks of.
PROGRAMS = {"models": "quickstart/data-scientist"}
COMMAND = re.compile(r"^\$ ", re.MULTILINE)
# Patience of the service, and of a page that is typed on a machine that does much else, seconds.
LONG_WAIT = 300
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The folder in which everything is typed."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def started(kept: Kept, place: Path) -> Iterator[Service]:
    """A service with the settings that the pages name: files and receivers of this machine may be used."""
    settings = {"input_prefixes": f"file://{place}/exports/", "webhook_networks": "127.0.0.1"}
    with short_folder() as folder:
        service = started_again(kept, folder, api_processes=1, max_wait_seconds=LONG_WAIT, **settings)
        yield service
        service.stop()


@pytest.fixture
def service(started: Service) -> Iterator[Service]:
    """The same, and afterwards without the keys that a page has made, so that others are typed without any."""
    yield started
    with redis.Redis.from_url(started.settings.redis_address) as client:
        client.delete(Keys(started.settings.redis_prefix).api_keys)
    until(lambda: started.http("GET", "/models").status == 200, what="nobody needs a key")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_answer_as_it_says(page: str, service: Service, place: Path) -> None:
    port = service.settings.port
    receiver = free_port()
    # And ports: of the service itself, of a second one, and of a receiver.
    instead = {
        "Prefer: wait=30": f"Prefer: wait={LONG_WAIT}",
        "PORT=8000": f"PORT={port}",
        "PORT=8001": f"PORT={free_port()}",
        "127.0.0.1:9000": f"127.0.0.1:{receiver}",
        '("127.0.0.1", 9000)': f'("127.0.0.1", {receiver})',
    }
    for program in (page, PROGRAMS.get(page, page)):
        keep_programs(root() / "docs" / f"{program}.md", port, place, instead)

    typed(root() / "docs" / f"{page}.md", port, place, clean_environment(service.settings), instead)


def test_every_command_of_the_documents_is_typed_by_a_test_or_has_a_reason_why_not() -> None:
    pages = {str(path): root() / path for path in documents(root())}

    with_commands = {name for name, path in pages.items() if steps(path)}
    untyped = {name: blocks(path, "shell-session") for name, path in pages.items() if blocks(path, "shell-session")}

    assert with_commands == {f"docs/{page}.md" for page in PAGES} | set(OTHERS)
    assert [test for test in OTHERS.values() if not (Path(__file__).parent / test).is_file()] == []
    assert {
        name: [[part for part in UNTYPED[name] if part in block] for block in found] for name, found in untyped.items()
    } == {name: [[part] for part in reasons] for name, reasons in UNTYPED.items()}
    languages = {
        (name, language)
        for name, path in pages.items()
        for language, block in FENCE.findall(path.read_text())
        if COMMAND.search(block)
    }
    assert [where for where in languages if where[1] not in ("console", "shell-session")] == []
