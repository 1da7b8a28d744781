"""kill -9 of anything: no accepted job vanishes, doubles or hangs."""

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from deploy.commands import root
from shared.queue import ONLINE
from tests.bells import put, take
from tests.integration.conftest import Service
from tests.integration.test_metrics import samples
from tests.models import FINE, KILL, SEGFAULT, SLOW
from tests.processes import clean_environment
from tests.wait import until


def each_once(jobs: list[dict[str, Any]], values: list[float]) -> None:
    """Every job succeeded with its own prediction, and was written once: one revision for every change of status."""
    assert [job["status"] for job in jobs] == ["succeeded"] * len(values)
    assert [job["result"]["predictions"] for job in jobs] == [[value * 2] for value in values]
    assert [job["revision"] for job in jobs] == [1 + 2 * job["attempt"] for job in jobs]


def running(service: Service, job_ids: list[str]) -> bool:
    return any(service.http("GET", f"/jobs/{job_id}").json["status"] == "running" for job_id in job_ids)


@pytest.mark.parametrize("whole", [True, False], ids=["the worker", "one of its processes"])
def test_a_killed_worker_loses_no_job(service: Service, whole: bool) -> None:
    values = [SLOW + 0.4 + number / 1000 for number in range(40)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]
    until(lambda: running(service, job_ids), 20, "a micro-batch runs")

    worker = service.processes[0]
    if whole:
        worker.kill()
        service.start_worker()
    else:
        worker.children()[0].kill()

    each_once(service.finished(job_ids), values)


def test_workers_killed_again_and_again_lose_no_job(make_service: Callable[..., Service]) -> None:
    service = make_service(max_attempts=50, micro_batch_jobs=4)
    service.start_janitor()
    service.start_api()
    worker = service.start_worker()
    values = [SLOW + 0.5 + number / 10_000 for number in range(120)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]

    for _ in range(4):
        until(lambda: running(service, job_ids), 20, "a micro-batch runs")
        worker.kill()
        worker = service.start_worker()

    each_once(service.finished(job_ids), values)


def test_a_job_that_crashes_its_worker_takes_no_other_with_it(service: Service) -> None:
    values = [FINE + number for number in range(50) if FINE + number not in (7.0, 8.0, 9.0, 13.0)]
    good = [service.http.submit("moody", [[value]])["id"] for value in values[:25]]
    poison = service.http.submit("moody", [[SEGFAULT]])["id"]
    deadly = service.http.submit("moody", [[KILL]])["id"]
    good += [service.http.submit("moody", [[value]])["id"] for value in values[25:]]

    each_once(service.finished(good), values)
    for job in service.finished([poison, deadly]):
        assert job["status"] == "failed"
        assert job["failure"]["code"] == "worker_lost"
        assert job["attempt"] == service.settings.max_attempts
        assert job["counts"] == {"total": 1, "pending": 0, "succeeded": 0, "failed": 0, "skipped": 1}
    counted_once(service, succeeded=len(good), failed=2)


def counted_once(service: Service, **ended: int) -> None:
    """Each job that ended was counted once, whoever died meanwhile, and so were the leases of those that died."""
    told = samples(service.http("GET", "/metrics").body.decode())
    jobs = {dict(labels)["status"]: number for (name, labels), number in told.items() if name == "jobs_ended_total"}
    assert jobs == ended
    assert told["leases_expired_total", (("queue", ONLINE),)] > told["units_retried_total", (("queue", ONLINE),)] > 0


def test_a_job_that_never_ends_is_ended(make_service: Callable[..., Service]) -> None:
    service = make_service(unit_timeout_seconds=1.5, max_attempts=2)
    service.start_worker()
    service.start_janitor()
    service.start_api()

    endless = service.http.submit("moody", [[SLOW + 50]])["id"]
    other = service.http.submit("moody", [[FINE]])["id"]

    each_once(service.finished([other]), [FINE])
    job = service.http.done(endless)
    assert (job["status"], job["failure"]["code"], job["attempt"]) == ("failed", "timed_out", 2)


def test_an_api_killed_between_record_and_doorbell_loses_no_job(service: Service) -> None:
    script = """
import os, signal
from api.services import build_services
from api.access import anybody
from api.submission import Origin, draft, submit
from api.wire import JobRequest
from shared.settings import load_settings
settings = load_settings()
services = build_services(settings)
origin = Origin(request_id="r", traceparent=None, key=None, target=(), caller=anybody(settings))
services.doorbell.ring = lambda queue: os.kill(os.getpid(), signal.SIGKILL)
drafted = draft(services, JobRequest(model="moody", instances=[[21.0]]), origin)
print(drafted.id, flush=True)
submit(services, drafted, lambda: drafted)
print("the doorbell was not rung", flush=True)
"""

    api = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(service.settings),
        cwd=root(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert api.returncode == -signal.SIGKILL
    assert "the doorbell was not rung" not in api.stdout
    each_once(service.finished([api.stdout.split()[0]]), [21.0])


def test_a_killed_api_answers_again_about_the_same_jobs(service: Service) -> None:
    values = [SLOW + 0.2 + number / 1000 for number in range(10)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]
    api = service.processes[-1]
    children = api.children()

    api.kill()
    psutil.wait_procs(children, timeout=10)
    service.start_api()

    each_once(service.finished(job_ids), values)


def test_a_killed_redis_has_every_acknowledged_job(service: Service) -> None:
    accepted: dict[str, float] = {}
    stop = threading.Event()

    def submit_for_ever(start: float) -> None:
        value = start
        while not stop.is_set():
            value += 1
            try:
                answer = service.http("POST", "/jobs", {"model": "moody", "instances": [[value]]})
            except (OSError, http.client.HTTPException):
                continue
            if answer.status == 202:
                accepted[answer.json["id"]] = value
            else:
                assert answer.status == 503, answer.body
                stop.wait(0.05)

    threads = [threading.Thread(target=submit_for_ever, args=(1000.0 * number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    until(lambda: len(accepted) > 100, 30, "a hundred jobs are accepted")
    service.redis.kill()
    until(lambda: service.http("GET", "/jobs").status == 503, 10, "the API says that Redis is away")
    before = len(accepted)
    service.restart_redis()
    until(lambda: len(accepted) > before + 100, 60, "a hundred more are accepted")
    stop.set()
    for thread in threads:
        thread.join()

    each_once(service.finished(list(accepted)), list(accepted.values()))


def test_a_redis_that_halts_for_twenty_seconds_is_503_and_then_forgotten(service: Service) -> None:
    values = [SLOW + 0.1 + number / 1000 for number in range(60)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]
    resume = threading.Timer(20, service.redis.popen.send_signal, [signal.SIGCONT])

    service.redis.popen.send_signal(signal.SIGSTOP)
    resume.start()
    refused = [service.http("POST", "/jobs", {"model": "moody", "instances": [[FINE]]}) for _ in range(3)]
    resume.join()

    assert [answer.status for answer in refused] == [503, 503, 503]
    assert all(
        1 <= int(answer.headers["retry-after"]) <= 120 and answer.json["code"] == "store_unavailable"
        for answer in refused
    )
    each_once(service.finished(job_ids, 120), values)
    assert service.http("POST", "/jobs", {"model": "moody", "instances": [[FINE]]}, Prefer="wait=30").status == 200


def test_every_celery_message_may_be_lost(make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.start_api()
    values = [FINE + 20 + number for number in range(30)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]

    assert len(take(service.settings, ONLINE)) == 1
    service.start_worker()
    service.start_janitor()

    each_once(service.finished(job_ids), values)


def test_every_celery_message_may_come_many_times(make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.start_api()
    values = [SLOW + 0.05 + number / 1000 for number in range(30)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]

    (message,) = take(service.settings, ONLINE)
    put(service.settings, ONLINE, message, 51)
    service.start_worker()
    service.start_worker()

    each_once(service.finished(job_ids), values)


def test_two_janitors_do_no_more_than_one(service: Service) -> None:
    service.start_janitor()
    values = [SLOW + 0.4 + number / 1000 for number in range(40)]
    job_ids = [service.http.submit("moody", [[value]])["id"] for value in values]
    until(lambda: running(service, job_ids), 20, "a micro-batch runs")

    service.processes[0].kill()
    service.start_worker()

    jobs = service.finished(job_ids)
    each_once(jobs, values)
    assert max(job["attempt"] for job in jobs) == 2
