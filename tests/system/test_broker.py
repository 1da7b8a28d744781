"""FORETELL_BROKER_URL: doorbells through another server than the one that holds the jobs, which may die under work."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import psutil
import pytest
import redis

from deploy.commands import worker_command
from deploy.doctor.broker import broker as look_at_broker
from shared.queue import CONTROL, ONLINE, SERVED, Doorbell, make_celery
from shared.settings import Settings
from tests.bells import take, waiting
from tests.certificates import TlsServer, connects, make_certificate
from tests.kept import short_folder
from tests.models import SLOW, register_moody
from tests.processes import Http, Process, RedisServer, clean_environment, free_port, start_api
from tests.rabbitmq import RabbitMQ
from tests.system.service import Service, quick_settings, send_file
from tests.wait import until


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker that can be killed, and started again on its files."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]
    stop: Callable[[], object]


def rabbitmq(request: pytest.FixtureRequest, folder: Path) -> Broker:
    server: RabbitMQ = request.getfixturevalue("server")
    return Broker(url=server.url_of_its_own(), kill=server.kill, start=server.start, stop=lambda: None)


def second_redis(request: pytest.FixtureRequest, folder: Path) -> Broker:
    port = str(free_port())
    settings = Settings(data_dir=folder / "bells")
    servers = [RedisServer(settings, "--bind", "127.0.0.1", "--port", port)]

    def start() -> None:
        servers.append(RedisServer(settings, "--bind", "127.0.0.1", "--port", port))

    return Broker(
        url=f"redis://127.0.0.1:{port}/1",
        kill=lambda: servers[-1].kill(),
        start=start,
        stop=lambda: [server.stop() for server in servers],
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQ]:
    """A RabbitMQ that closes the channel of who has acknowledged nothing for two seconds."""
    with short_folder() as folder:
        server = RabbitMQ(folder, consumer_timeout="2000", channel_tick_interval="200")
        yield server
        server.stop()


@pytest.fixture(scope="module", params=[second_redis, rabbitmq], ids=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with short_folder() as folder:
        broker = request.param(request, folder)
        yield broker
        broker.stop()


@pytest.fixture(scope="module")
def apart(broker: Broker) -> Iterator[Service]:
    """A service whose messages do not go through the Redis that holds its jobs."""
    with short_folder() as folder:
        service = Service(quick_settings(folder / "var", broker_url=broker.url, demo_models=False))
        register_moody(service.settings)
        yield service
        service.stop()


def test_the_doctor_sees_that_messages_are_taken(apart: Service) -> None:
    def said() -> list[str]:
        return [finding.status for finding in look_at_broker(apart.settings, SERVED)]

    until(lambda: said() == ["ok"], 120, "every queue has a consumer")


def test_jobs_are_done(apart: Service) -> None:
    file = send_file(apart.http, b"id,x\n1,21\n", model="moody", key="id").json["id"]
    jobs = [apart.http.submit("moody", [[21.0]])["id"], file]

    assert {apart.http.done(job_id)["status"] for job_id in jobs} == {"succeeded"}


def test_no_message_goes_through_the_redis_that_holds_the_jobs(apart: Service) -> None:
    with redis.Redis.from_url(apart.settings.redis_address) as client:
        assert client.keys(f"{apart.settings.redis_prefix}:celery:*") == []


def test_a_broker_behind_tls_must_show_a_certificate_of_the_authority(broker: Broker, folder: Path) -> None:
    own = make_certificate(folder, "authority", "broker")
    other = make_certificate(folder, "other-authority", "stranger")
    server = TlsServer(urlsplit(broker.url).port or 0, own)
    url = broker.url.replace("://", "s://", 1).replace(str(urlsplit(broker.url).port), str(server.port))

    connected = [connects(Settings(broker_url=url, broker_ca_file=ca)) for ca in (own.ca, other.ca)]
    server.stop()

    assert connected == [True, False]


def test_jobs_are_accepted_while_the_broker_is_dead_and_done_when_it_is_back(apart: Service, broker: Broker) -> None:
    broker.kill()

    accepted = [apart.http.submit("moody", [[21.0]])["id"] for _ in range(20)]
    accepted.append(send_file(apart.http, b"id,x\n1,21\n", model="moody", key="id").json["id"])
    reads = [apart.http("GET", f"/jobs/{job_id}").status for job_id in accepted]
    broker.start()

    assert set(reads) == {200}
    assert {apart.http.done(job_id, 120)["status"] for job_id in accepted} == {"succeeded"}
    until(apart.ready, 120, "the service is ready")
    assert apart.http.done(apart.http.submit("moody", [[21.0]])["id"])["status"] == "succeeded"


class Alone:
    """A worker whose one process is halted with a job, an API, and bells that nobody answers."""

    def __init__(self, server: RabbitMQ, folder: Path, application: str) -> None:
        url = server.url_of_its_own().replace("@", f"@127.0.0.1:{free_port()},")  # the first node is down
        self.settings = settings = quick_settings(folder / "var", broker_url=url, workers=1)
        self.redis = RedisServer(settings)
        register_moody(settings)
        command = [part.replace("worker.app", application) for part in worker_command(settings, ONLINE)]
        self.worker = Process(command, clean_environment(settings), folder / "worker.log")
        self.worker.await_start(lambda: "worker.ready" in self.worker.text(), "the worker is ready")
        self.api = start_api(settings)
        self.http = Http(settings.port)
        (self.child,) = self.worker.children()
        self.job_id = self.http.submit("moody", [[SLOW + 1]])["id"]
        until(lambda: self.http("GET", f"/jobs/{self.job_id}").json["status"] == "running", what="its process is busy")
        self.child.suspend()
        for _ in range(4):
            Doorbell(make_celery(settings)).ring(ONLINE)

    def works_on(self) -> bool:
        """Whether the same process does a job, once it goes on."""
        self.child.resume()
        jobs = [self.job_id, self.http.submit("moody", [[21.0]])["id"]]
        done = [self.http.done(job_id)["status"] == "succeeded" for job_id in jobs]
        return all(done) and self.child in self.worker.children()

    def stop(self) -> None:
        """End everything."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.child.resume()
        for process in (self.api, self.worker, self.redis):
            process.stop()


@pytest.fixture
def alone(server: RabbitMQ, folder: Path) -> Iterator[Callable[[str], Alone]]:
    with contextlib.ExitStack() as stack:

        def make(application: str) -> Alone:
            made = Alone(server, folder, application)
            stack.callback(made.stop)
            return made

        yield make


def test_a_worker_whose_processes_are_busy_keeps_no_bell_to_itself_for_ever(alone: Callable[[str], Alone]) -> None:
    busy = alone("tests.system.impatient")

    # It is given one at a time, and the next only when it has acknowledged that.
    until(lambda: waiting(busy.settings, ONLINE) == 0, what="every bell is acknowledged, though none was answered")

    assert busy.works_on()


def test_a_worker_outlives_that_rabbitmq_closes_its_channel(alone: Callable[[str], Alone]) -> None:
    busy = alone("worker.app")

    until(lambda: "delivery acknowledgement on channel" in busy.worker.text(), what="its channel is closed")

    assert busy.works_on()
    assert busy.worker.popen.poll() is None


def test_who_has_rights_on_what_is_named_after_the_service_alone_can_run_it(server: RabbitMQ, folder: Path) -> None:
    url = server.url_of_its_own()
    host = url.rpartition("/")[2]
    server.manage("PUT", "users/someone", {"password": "secret", "tags": ""})
    ours = r"^foretell(\..*)?$"
    written = r"^(foretell(\..*)?|amq\.default)$"
    server.manage("PUT", f"permissions/{host}/someone", {"configure": ours, "write": written, "read": ours})
    settings = Settings(data_dir=folder, broker_url=url.replace("guest:guest", "someone:secret"))
    celery = make_celery(settings)

    with celery.connection_for_write() as connection, connection.channel() as channel:
        for queue in SERVED:
            celery.amqp.queues[queue](channel).declare()
            Doorbell(celery).ring(queue)

    found = server.queues(url)
    assert found == {f"foretell.{queue}": "classic" for queue in SERVED}  # of a single node
    assert [len(take(settings, queue)) for queue in SERVED] == [1] * len(SERVED)
    assert [finding.status for finding in look_at_broker(settings, ())] == ["ok"]


def test_the_doctor_names_a_queue_of_another_type(server: RabbitMQ, folder: Path) -> None:
    settings = Settings(data_dir=folder, broker_url=server.url_of_its_own())
    with make_celery(settings).connection_for_write() as connection:
        kombu.Queue(
            "foretell.train",
            kombu.Exchange("foretell"),
            channel=connection.channel(),
            queue_arguments={"x-queue-type": "quorum"},
        ).declare()

    (finding,) = look_at_broker(settings, ())

    assert finding.status == "problem"
    assert "foretell.train" in finding.found
    assert "delete_queue foretell.train" in finding.action


def test_the_doctor_sees_that_a_broker_answers_and_keeps_nothing(server: RabbitMQ, folder: Path) -> None:
    url = server.url_of_its_own()
    settings = Settings(data_dir=folder, broker_url=url)
    full = {"pattern": ".*", "definition": {"max-length": 1, "overflow": "reject-publish"}}
    server.manage("PUT", f"policies/{url.rpartition('/')[2]}/full", full)

    def refused() -> bool:
        try:
            Doorbell(make_celery(settings)).ring(CONTROL)
        except kombu.exceptions.OperationalError:
            return True
        return False

    until(refused, what="the queue is full")
    (finding,) = look_at_broker(settings, ())

    assert finding.status == "problem"
    assert "takes no messages" in finding.found
