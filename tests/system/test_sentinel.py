"""FORETELL_REDIS_URL=sentinel://...: the master dies, or hangs, under work, and the service goes on by itself."""

import contextlib
import http.client
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.doctor.command import examined
from deploy.doctor.finding import Status
from tests.kept import short_folder
from tests.models import register_moody
from tests.processes import Http
from tests.sentinels import PASSWORD, Sentinels
from tests.system.service import Service, quick_settings, run_command
from tests.wait import until


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with short_folder() as folder:
        sentinels = Sentinels(folder)
        try:
            yield sentinels
        finally:
            sentinels.stop()


@pytest.fixture(scope="module")
def failover(sentinels: Sentinels) -> Iterator[Service]:
    """A service on whichever of the two is the master, with one that doubles."""
    with short_folder() as folder:
        service = Service(quick_settings(folder / "var", redis_url=sentinels.url, demo_models=False))
        try:
            register_moody(service.settings)
            yield service
        finally:
            service.stop()


class Client:
    """Submits jobs one after another, each again with its key until it is acknowledged."""

    def __init__(self, http: Http) -> None:
        self.acknowledged: list[str] = []
        self._http = http
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            key = uuid.uuid4().hex
            while not self._end.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    body = {"model": "moody", "instances": [[21.0]]}
                    answer = self._http("POST", "/jobs", body, Idempotency_Key=key)
                    if answer.status in (200, 202):
                        self.acknowledged.append(answer.json["id"])
                        break
                self._end.wait(0.02)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def goes_on(self) -> None:
        """Wait until more jobs are acknowledged."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > before + 20, 90, "jobs are acknowledged")


def replicated(sentinels: Sentinels, master: int) -> None:
    """Wait until the replica has all that the master was told until now."""
    with sentinels.client(master) as client:
        client.set("written", 1)
        assert client.wait(1, 30_000) == 1


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "halted"])
def test_a_master_that_is_lost_costs_no_job_that_the_replica_had(
    sentinels: Sentinels, failover: Service, fault: signal.Signals
) -> None:
    master = sentinels.master()
    assert master is not None
    until(lambda: sentinels.info(1 - master).get("master_link_status") == "up", 60, "the replica is connected")

    with Client(failover.http) as client:
        client.goes_on()
        safe = list(client.acknowledged)
        replicated(sentinels, master)
        sentinels.servers[master].popen.send_signal(fault)
        until(lambda: sentinels.master() == 1 - master, 60, "there is another master")
        new = len(client.acknowledged)
        client.goes_on()
    if fault == signal.SIGSTOP:
        sentinels.servers[master].popen.send_signal(signal.SIGCONT)
    else:
        sentinels.servers[master].popen.wait()
        sentinels.start(master)

    ended = [failover.http.done(job_id, 90) for job_id in safe + client.acknowledged[new:]]
    assert {job["status"] for job in ended} == {"succeeded"}
    until(lambda: sentinels.info(master)["role"] == "slave", 90, "the old master is a replica")
    until(failover.ready, 90, "the service is ready")


def test_the_master_is_backed_up(failover: Service, tmp_path: Path) -> None:
    done = run_command(failover.settings, "backup", str(tmp_path / "backup"))

    assert done.returncode == 0, done.stderr
    assert "1 versions of models" in done.stdout


def test_the_doctor_advises_against_a_master_that_takes_jobs_alone(sentinels: Sentinels, failover: Service) -> None:
    master = sentinels.master()
    assert master is not None
    until(lambda: sentinels.info(master)["connected_slaves"] == 1, 60, "the replica is connected")

    found = {finding.check: finding for finding in examined(failover.settings, with_models=False)}

    assert found["replication"].status is Status.WARNING
    assert "min-replicas-to-write 1" in found["replication"].action
    assert PASSWORD not in repr(found)


def test_the_password_is_not_logged(failover: Service) -> None:
    assert PASSWORD not in failover.process.text()
