"""What becomes of spans when a process ends, when there is no collector, and where tracing is off."""

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from deploy.commands import root
from shared.settings import Settings
from tests.collector import Collector
from tests.integration.conftest import Service
from tests.integration.receivers import raw_server
from tests.models import FINE
from tests.processes import clean_environment
from tests.wait import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADER = f"00-{TRACE}-00f067aa0ba902b7-01"
LATE = str(10 * 60_000)  # long after a test is over, milliseconds
WITHOUT_ITS_PACKAGES = """
import sys
sys.modules["opentelemetry"] = None  # whoever imports it is told that there is none

import api.app, worker.app, worker.services, deploy.run, foretell.runner
from shared.settings import Settings, load_settings
from shared.errors import BadSetting

api.app.create_app(Settings(data_dir=sys.argv[1]))
foretell.runner.trace_headers()
print([name for name in sys.modules if name.startswith("opentelemetry")])
try:
    load_settings({"FORETELL_TRACING": "true"})
except BadSetting as error:
    print(error)
"""


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent at the end of a process only."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", LATE)


def started(make_service: Callable[..., Service]) -> Service:
    service = make_service(tracing=True, workers=1, api_processes=1)
    service.start_worker()
    service.start_api()
    return service


@pytest.mark.usefixtures("late")
def test_what_was_not_sent_yet_is_sent_when_a_process_ends(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.environment["OTEL_EXPORTER_OTLP_ENDPOINT"])
        service = started(make_service)
        body = {"model": "moody", "instances": [[FINE]]}
        assert service.http("POST", "/jobs", body, Prefer="wait=30", traceparent=HEADER).json["status"] == "succeeded"
        before = collector.spans()

        codes = [process.stop() for process in reversed(service.processes)]

        assert before == []
        assert codes == [0, 0]
        assert {span.name for span in collector.spans(TRACE)} == {
            *("POST /jobs", "foretell.submit", "foretell.job", "foretell.micro_batch", "foretell.load"),
            *("foretell.predict", "foretell.commit"),
        } | {span.name for span in collector.spans(TRACE) if span.name == "foretell.doorbell"}


def wait_for_end(connection: socket.socket) -> None:
    """Read what comes until the other side closes the connection."""
    while connection.recv(65_536):
        continue


def done_without_a_collector(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, port: int, **variables: str
) -> Service:
    """A service of which nobody takes the spans, more than it keeps, after its jobs are done."""
    few = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    for name, value in ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"} | few | variables).items():
        monkeypatch.setenv(name, value)
    service = started(make_service)
    jobs = [service.http.submit("moody", [[FINE]])["id"] for _ in range(10)]
    assert {job["status"] for job in service.finished(jobs)} == {"succeeded"}
    return service


def test_with_a_collector_that_is_away_jobs_are_done_and_it_is_told_that_spans_are_lost(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # which nobody listens at, and nobody else gets
        port = int(probe.getsockname()[1])

        service = done_without_a_collector(make_service, monkeypatch, port, OTEL_EXPORTER_OTLP_TIMEOUT="0.5")

        until(lambda: "tracing.not_sent" in service.processes[0].text(), what="it is told")


def test_with_a_collector_that_never_answers_jobs_are_done_and_processes_end(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(wait_for_end) as port:
        service = done_without_a_collector(make_service, monkeypatch, port)

        assert [process.stop() for process in reversed(service.processes)] == [0, 0]  # and not by a kill


def test_where_it_is_off_nothing_of_it_is_needed_and_where_it_is_on_it_says_what_is(settings: Settings) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_ITS_PACKAGES, str(settings.data_dir)],
        cwd=root(), env=clean_environment(), capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    imported, refusal = answer.stdout.splitlines()
    assert imported == "['opentelemetry']"
    assert refusal.startswith("FORETELL_TRACING=true needs packages that are not installed: `make tracing`")
