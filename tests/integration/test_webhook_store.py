"""The outbox of webhooks in a real Redis: leases, turns, pauses, and what is kept of the deliveries."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from shared.batch import BatchOptions, Input
from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.delivery import Delivery, DeliveryStatus, Leased
from shared.errors import DeliveryNotFound, InvalidRequest, LimitReached, WebhookSecretMissing
from shared.job import Spec, Status, new_job_id
from shared.records import DEADLINE, Outcome, Submission
from shared.settings import Settings
from shared.store import JobStore
from shared.webhooks import Webhooks
from tests.conftest import announce_models
from tests.processes import RedisServer
from tests.wait import until
from worker.webhooks import trace_headers

URL = "https://a.example/hook"
DELIVERED, FAILED, WAITING = DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.WAITING


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("r") / "v")
    server = RedisServer(settings)
    yield server
    server.stop()


@pytest.fixture
def make(server: RedisServer) -> Callable[..., Webhooks]:
    """The webhooks of an empty Redis."""
    server.client.flushall()
    announce_models(server.client, server.settings)

    def make(**values: Any) -> Webhooks:
        store = store_of(server)
        return Webhooks(store.connections, store.keys, server.settings.model_copy(update=values))

    return make


@pytest.fixture
def webhooks(make: Callable[..., Webhooks]) -> Webhooks:
    return make()


def store_of(server: RedisServer, **values: Any) -> JobStore:
    settings = server.settings.model_copy(update=values)
    return JobStore(Connections(settings.redis_address, timeout_seconds=5), settings)


@pytest.fixture
def store(server: RedisServer, webhooks: Webhooks) -> JobStore:
    return store_of(server)


def put(webhooks: Webhooks, url: str = URL, owner: str = "default") -> str:
    return webhooks.put(owner, url, "webhook.test", b"{}")[0]


def pull(webhooks: Webhooks) -> Leased:
    leased = webhooks.pull(answered=True)
    assert leased is not None
    return leased


def pulled(webhooks: Webhooks) -> list[Leased]:
    """All that may be sent at the moment, one after the other, each kept as if it were being sent."""
    return list(iter(lambda: webhooks.pull(answered=True), None))


def commit(
    webhooks: Webhooks, leased: Leased, outcome: DeliveryStatus, *, pause_seconds: float = 0, **entry: Any
) -> bool:
    whole = {"attempt": leased.attempt, "at": leased.at_millis, "milliseconds": 1, **entry}
    return webhooks.commit(leased, outcome, whole, pause_seconds=pause_seconds)


def get(webhooks: Webhooks, delivery_id: str) -> Delivery:
    return webhooks.get("default", delivery_id)


def submit(
    store: JobStore, owner: str = "default", url: str | None = URL, queue: str = "online",
    traceparent: str | None = None, **values: Any,
) -> str:  # fmt: skip
    spec = Spec(
        requested="m", model="m", version=1, method="predict", owner=owner, traceparent=traceparent,
        webhook=None if url is None else {"url": url},
    )  # fmt: skip
    job_id = new_job_id()
    store.submit(
        Submission(id=job_id, spec=spec, rows=b"[[1]]", total=1, alias=None, queue=queue, ttl_seconds=60, **values)
    )
    return job_id


def finish(store: JobStore, status: Status = Status.SUCCEEDED) -> None:
    """Pull all jobs, and end them so."""
    while (unit := store.pull("online", "w", linger_seconds=0, answered=True)) is not None:
        store.commit(unit.fence, [Outcome(id=job.id, status=status, succeeded=1, failed=0) for job in unit.jobs])


@pytest.mark.parametrize("traceparent", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None])
def test_a_webhook_carries_the_trace_of_its_job_also_where_tracing_is_off(
    webhooks: Webhooks, store: JobStore, traceparent: str | None
) -> None:
    submit(store, traceparent=traceparent)
    finish(store)

    assert trace_headers(pull(webhooks)).get("traceparent") == traceparent


def next_millisecond(server: RedisServer) -> None:
    """Wait until the clock of Redis shows another one."""

    def shown() -> int:
        seconds, microseconds = server.client.time()
        return int(seconds * 1000 + microseconds // 1000)

    before = shown()
    until(lambda: shown() > before, what="the clock goes on")


def newest_status(store: JobStore) -> Status:
    """That of the newest job."""
    return store.page(limit=1)[0][0].status


class TestEnds:
    """The end of a job puts its webhook into the outbox, whichever way it ends."""

    @pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED, Status.FAILED])
    def test_committed(self, store: JobStore, webhooks: Webhooks, status: Status) -> None:
        job_id = submit(store)

        assert webhooks.pull(answered=True) is None
        finish(store, status)

        leased = pull(webhooks)
        assert (leased.id, leased.job_id, leased.type) == (f"msg_{job_id}", job_id, f"job.{status}")
        assert (leased.url, leased.host, leased.attempt, leased.payload) == (URL, "a.example", 1, None)

    def test_cancelled_while_it_waits(self, store: JobStore, webhooks: Webhooks) -> None:
        store.cancel(submit(store))

        assert pull(webhooks).type == "job.cancelled"

    def test_cancelled_while_it_runs(self, store: JobStore, webhooks: Webhooks) -> None:
        job_id = submit(store)
        unit = store.pull("online", "w", linger_seconds=0, answered=True)
        assert unit is not None
        store.cancel(job_id)
        store.commit(unit.fence, [Outcome(id=job_id, status=Status.SUCCEEDED, succeeded=1, failed=0)])

        assert pull(webhooks).type == "job.cancelled"

    def test_too_late(self, store: JobStore, webhooks: Webhooks) -> None:
        submit(store, deadline_seconds=0.001)
        until(lambda: store.tick(["online"])[1], what="the deadline is over")

        assert pull(webhooks).type == "job.failed"

    def test_too_late_when_it_is_pulled(self, store: JobStore, webhooks: Webhooks, server: RedisServer) -> None:
        job = store.read(submit(store, deadline_seconds=0.05))
        assert job is not None
        until(lambda: server.client.time()[0] > job.created_at.timestamp() + 1, what="the deadline is over")

        assert store.pull("online", "w", linger_seconds=0, answered=True) is None

        assert pull(webhooks).type == "job.failed"

    def test_lost_with_its_worker(self, store: JobStore, webhooks: Webhooks) -> None:
        submit(store)
        unit = store.pull("online", "w", linger_seconds=0, answered=True)
        assert unit is not None
        store.release(unit.fence, DEADLINE, last=True)

        assert pull(webhooks).type == "job.failed"

    def test_over_a_file(self, store: JobStore, webhooks: Webhooks, server: RedisServer) -> None:
        batches = BatchStore(store, server.settings)
        options = BatchOptions(input=Input(key="nowhere"))
        spec = Spec(requested="m", model="m", version=1, method="predict", batch=options, webhook={"url": URL})
        for number in range(2):
            store.submit(Submission(id=f"j{number}", spec=spec, alias=None, queue="batch", ttl_seconds=60))
        unit = batches.pull("w", linger_seconds=0, answered=True)
        assert unit is not None

        batches.fail(unit, "invalid_input", "No.")
        store.cancel("j1")

        assert {(one.id, one.type) for one in pulled(webhooks)} == {
            ("msg_j0", "job.failed"),
            ("msg_j1", "job.cancelled"),
        }

    @pytest.mark.parametrize(
        "metadata",
        [
            pytest.param({"a": [[]], "b": {}, "c": None, "d": ""}, id="empty"),
            pytest.param({"a": 2**63, "b": -1.5e308, "c": 5e-324}, id="numbers"),
            pytest.param({"\u00fc\U0001f600\x00\u2028": '"\\/'}, id="characters"),
            pytest.param({"a": orjson.loads(b"[" * 240 + b"]" * 240)}, id="deep"),
        ],
    )
    def test_whatever_the_metadata(self, store: JobStore, webhooks: Webhooks, metadata: dict[str, Any]) -> None:
        spec = Spec(requested="m", model="m", version=1, method="predict", metadata=metadata, webhook={"url": URL})
        job = Submission(id="j", spec=spec, rows=b"[[1]]", total=1, alias=None, queue="online", ttl_seconds=60)
        store.submit(job)
        finish(store)

        assert (pull(webhooks).id, newest_status(store)) == ("msg_j", Status.SUCCEEDED)

    def test_without_a_webhook(self, store: JobStore, webhooks: Webhooks) -> None:
        submit(store, url=None)
        finish(store)

        assert webhooks.pull(answered=True) is None
        assert webhooks.overview("default").waiting == 0

    def test_past_those_that_may_wait_it_has_failed_at_once_and_says_why(
        self, server: RedisServer, make: Callable[..., Webhooks]
    ) -> None:
        webhooks = make(max_waiting_webhooks=2, max_kept_webhooks=3)
        store = store_of(server, max_waiting_webhooks=2, max_kept_webhooks=3)
        other = submit(store, owner="team-b")
        job_ids = [submit(store) for _ in range(10)]
        for job_id in [*job_ids, other]:
            store.cancel(job_id, owner="team-b" if job_id == other else "default")
            next_millisecond(server)  # those that end in the same one have no order

        first, *refused = reversed(webhooks.page("default", limit=20)[0])

        told = {one.id: one for one in (first, *refused)}
        assert [told[f"msg_{job_id}"].status for job_id in job_ids[:2]] == [WAITING, WAITING]
        assert {one.id for one in told.values() if one.status is FAILED} == {f"msg_{job_id}" for job_id in job_ids[-3:]}
        detail = get(webhooks, f"msg_{job_ids[-1]}")
        (entry,) = detail.log
        assert (detail.attempts, entry.attempt) == (0, 0)
        assert entry.error == "It was not tried, since 2 other webhooks waited."
        assert detail.ended_at == entry.at
        assert webhooks.overview("team-b").waiting == 1
        assert len(server.client.keys("*}:delivery:*")) == 2 + 3 + 1

    def test_what_was_too_much_can_be_sent_when_there_is_room(
        self, server: RedisServer, make: Callable[..., Webhooks]
    ) -> None:
        webhooks, store = make(max_waiting_webhooks=1), store_of(server, max_waiting_webhooks=1)
        for job_id in (first := submit(store), second := submit(store)):
            store.cancel(job_id)
        with pytest.raises(LimitReached):
            webhooks.redeliver("default", f"msg_{second}")
        leased = pull(webhooks)
        commit(webhooks, leased, DELIVERED)
        webhooks.redeliver("default", f"msg_{second}")

        again = pull(webhooks)

        assert (leased.id, again.id, again.attempt) == (f"msg_{first}", f"msg_{second}", 1)
        assert commit(webhooks, again, DELIVERED)
        assert [entry.attempt for entry in get(webhooks, again.id).log] == [1, 0]

    def test_of_a_job_that_an_older_version_accepted(
        self, store: JobStore, webhooks: Webhooks, server: RedisServer
    ) -> None:
        job_id = submit(store)
        server.client.hset(store.keys.job(job_id), "webhook", "1")

        store.cancel(job_id)

        assert pull(webhooks).id == f"msg_{job_id}"

    def test_a_job_that_is_deleted_meanwhile_is_told_of_all_the_same(self, store: JobStore, webhooks: Webhooks) -> None:
        job_id = submit(store)
        finish(store)
        store.delete(job_id)

        assert pull(webhooks).id == f"msg_{job_id}"


class TestLease:
    """A delivery is with one thread at a time."""

    def test_nobody_else_gets_it(self, webhooks: Webhooks) -> None:
        put(webhooks)

        assert len(pulled(webhooks)) == 1

    def test_it_goes_to_another_when_the_lease_is_over(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(webhook_timeout_seconds=-9.9)  # a lease of a tenth of a second
        first = put(webhooks)
        lost = pull(webhooks)

        again = until(lambda: webhooks.pull(answered=True), what="the lease is over")

        assert again is not None
        assert (again.id, again.attempt) == (first, 2)
        assert int(again.fence) > int(lost.fence)

    def test_who_lost_it_writes_nothing(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(webhook_timeout_seconds=-9.9)
        delivery = put(webhooks)
        lost = pull(webhooks)
        again = until(lambda: webhooks.pull(answered=True), what="the lease is over")
        assert again is not None

        assert not commit(webhooks, lost, FAILED)
        assert webhooks.freeze(lost, b"[]") is None
        assert commit(webhooks, again, DELIVERED, status=200)
        assert not commit(webhooks, again, FAILED)
        assert get(webhooks, delivery).status is DELIVERED

    def test_attempts_are_bounded_although_every_process_dies(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(webhook_timeout_seconds=-9.99, webhook_retry_seconds="1 1")
        put(webhooks)

        attempts = [until(lambda: webhooks.pull(answered=True)) for _ in range(4)]

        assert [(leased.attempt, leased.lost) for leased in attempts if leased] == [
            (1, False),
            (2, False),
            (3, False),
            (3, True),
        ]

    def test_one_with_more_attempts_than_there_are_by_now_was_not_lost(self, make: Callable[..., Webhooks]) -> None:
        before, now = make(webhook_retry_seconds="1 1"), make(webhook_retry_seconds="")
        delivery = put(now)
        for _ in range(2):
            commit(before, pull(before), WAITING, error="No.")

        leased = pull(now)
        commit(now, leased, FAILED, error="None left.")

        assert (leased.attempt, leased.lost) == (0, False)
        told = get(now, delivery)
        assert [(entry.attempt, entry.error) for entry in told.log] == [(0, "None left."), (2, "No."), (1, "No.")]

    def test_one_without_its_log_ends_all_the_same(self, webhooks: Webhooks, server: RedisServer) -> None:
        delivery = put(webhooks)
        leased = pull(webhooks)
        server.client.delete(*server.client.keys("*}:attempts:*"))

        assert commit(webhooks, leased, DELIVERED)

        assert [entry.attempt for entry in get(webhooks, delivery).log] == [1]

    def test_an_attempt_is_counted_before_it_is_made(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        pull(webhooks)

        told = get(webhooks, delivery)

        assert (told.status, told.attempts, [entry.attempt for entry in told.log]) == (WAITING, 1, [1])
        assert told.log[0].error is None

    def test_what_is_sent_is_the_same_at_every_attempt(self, store: JobStore, webhooks: Webhooks) -> None:
        submit(store)
        finish(store)
        first = pull(webhooks)

        assert webhooks.freeze(first, b'{"a":1}') == b'{"a":1}'
        assert webhooks.freeze(first, b'{"a":2}') == b'{"a":1}'
        commit(webhooks, first, WAITING)
        assert pull(webhooks).payload == b'{"a":1}'


class TestPauses:
    """What failed is due again later."""

    def test_it_waits(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        commit(webhooks, pull(webhooks), WAITING, pause_seconds=60, error="No.")

        assert webhooks.pull(answered=True) is None
        assert not webhooks.due()
        told = get(webhooks, delivery)
        assert told.next_attempt_at is not None
        assert 59 <= (told.next_attempt_at - told.created_at).total_seconds() <= 90

    def test_it_is_due_when_the_pause_is_over(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        commit(webhooks, pull(webhooks), WAITING, pause_seconds=0.05)

        again = until(lambda: webhooks.pull(answered=True), what="it is due")

        assert again is not None
        assert (again.id, again.attempt) == (delivery, 2)

    def test_the_log_has_the_newest_twenty_attempts(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        for number in range(25):
            if number % 5 == 0:
                webhooks.redeliver("default", delivery)
            commit(webhooks, pull(webhooks), WAITING, error=f"number {number}")

        assert [entry.error for entry in get(webhooks, delivery).log] == [f"number {24 - back}" for back in range(20)]


class TestTurns:
    """A host, or an owner, with many deliveries does not keep others from theirs."""

    def test_a_host_gets_a_quarter_at_a_time(self, webhooks: Webhooks) -> None:
        for _ in range(10):
            put(webhooks, "https://a.example/")
        put(webhooks, "https://b.example/")

        assert sorted(leased.host for leased in pulled(webhooks)) == ["a.example", "a.example", "b.example"]

    def test_an_owner_gets_three_quarters_at_a_time(self, webhooks: Webhooks) -> None:
        for number in range(10):
            put(webhooks, f"https://{number}.example/", "team-a")
        put(webhooks, "https://0.example/", "team-b")

        owners = [leased.owner for leased in pulled(webhooks)]

        assert (owners.count("team-a"), owners.count("team-b")) == (6, 1)

    def test_hosts_take_turns(self, webhooks: Webhooks) -> None:
        for host in ("a", "a", "a", "b", "c"):
            put(webhooks, f"https://{host}.example/")
        time.sleep(0.002)  # turns are told apart by the millisecond, and all this fits into one

        hosts = []
        for _ in range(5):
            leased = pull(webhooks)
            hosts.append(leased.host)
            commit(webhooks, leased, DELIVERED)

        assert set(hosts[:3]) == {"a.example", "b.example", "c.example"}

    @pytest.mark.parametrize("fields", [(), ("url",)], ids=["the-whole-record", "a-part-of-it"])
    def test_one_whose_record_was_lost_keeps_nobody_from_theirs(
        self, webhooks: Webhooks, server: RedisServer, fields: tuple[str, ...]
    ) -> None:
        lost = [put(webhooks, url) for url in (URL, URL, "https://b.example/") for _ in range(3)]
        for delivery in lost:
            (key,) = server.client.keys(f"*}}:delivery:{delivery}")
            server.client.hdel(key, *fields) if fields else server.client.delete(key)
        there = {put(webhooks), put(webhooks, "https://c.example/"), put(webhooks, owner="team-b")}

        assert {leased.id for leased in pulled(webhooks)} == there

        assert webhooks.overview("default").waiting == 2
        assert not server.client.exists(f"{store_of(server).keys.base}undelivered:default:b.example")

    def test_a_host_with_nothing_to_send_keeps_nobody_from_theirs(
        self, webhooks: Webhooks, server: RedisServer
    ) -> None:
        for host in "abc":
            put(webhooks, f"https://{host}.example/")
        there = put(webhooks, "https://d.example/")
        server.client.delete(
            *(key for host in "abc" for key in server.client.keys(f"*}}:undelivered:*:{host}.example"))
        )

        assert [leased.id for leased in pulled(webhooks)] == [there]

    def test_a_place_is_free_again_when_one_has_ended(self, webhooks: Webhooks) -> None:
        for _ in range(3):
            put(webhooks)
        first, _ = pulled(webhooks)

        commit(webhooks, first, DELIVERED)

        assert len(pulled(webhooks)) == 1

    def test_hosts_are_the_same_however_they_are_written(self, webhooks: Webhooks) -> None:
        for url in ("https://a.example/x", "https://A.example/y", "https://a.EXAMPLE?z"):
            put(webhooks, url)

        assert len(pulled(webhooks)) == 2

    def test_a_doorbell_is_rung_for_what_is_left(self, webhooks: Webhooks) -> None:
        put(webhooks, "https://a.example/")
        put(webhooks, "https://b.example/")

        assert pull(webhooks).ring
        assert not pull(webhooks).ring

    def test_one_bell_on_its_way_is_enough(self, webhooks: Webhooks) -> None:
        _, ring = webhooks.put("default", URL, "webhook.test", b"{}")

        assert ring
        assert not webhooks.due()
        pull(webhooks)
        assert not webhooks.due()


class TestKept:
    """What can be read of deliveries, by whom and for how long."""

    def test_newest_first_page_by_page(self, webhooks: Webhooks) -> None:
        made = [put(webhooks) for _ in range(25)]
        found: list[str] = []
        cursor = ""

        while True:
            page, following = webhooks.page("default", limit=10, cursor=cursor)
            found += [delivery.id for delivery in page]
            if following is None:
                break
            cursor = following

        assert sorted(found) == sorted(made)
        created = [get(webhooks, delivery_id).created_at for delivery_id in found]
        assert created == sorted(created, reverse=True)

    def test_those_of_one_moment_are_listed_once_each(self, store: JobStore, webhooks: Webhooks) -> None:
        made = {f"msg_{submit(store)}" for _ in range(20)}
        finish(store)  # all in one step
        found: list[str] = []
        cursor: str | None = ""

        while cursor is not None:
            page, cursor = webhooks.page("default", limit=3, cursor=cursor)
            found += [delivery.id for delivery in page]

        assert len({get(webhooks, delivery_id).created_at for delivery_id in found}) == 1
        assert (len(found), set(found)) == (20, made)

    def test_by_status(self, webhooks: Webhooks) -> None:
        first, second, third = (put(webhooks, f"https://{host}.example/") for host in "abc")
        leased = {one.id: one for one in pulled(webhooks)}
        commit(webhooks, leased[first], DELIVERED, status=200)
        commit(webhooks, leased[second], FAILED, status=410)

        listed = {status: webhooks.page("default", limit=9, status=status)[0] for status in DeliveryStatus}

        assert {status: [delivery.id for delivery in page] for status, page in listed.items()} == {
            WAITING: [third],
            DELIVERED: [first],
            FAILED: [second],
        }
        overview = webhooks.overview("default")
        assert (overview.waiting, overview.ended) == (1, 2)

    def test_others_see_nothing_of_it(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks, owner="team-a")
        webhooks.rotate_secret("team-a")

        with pytest.raises(DeliveryNotFound):
            webhooks.get("team-b", delivery)
        with pytest.raises(DeliveryNotFound):
            webhooks.redeliver("team-b", delivery)
        assert webhooks.page("team-b", limit=10) == ([], None)
        overview = webhooks.overview("team-b")
        assert (overview.secret, overview.waiting) == (None, 0)

    def test_it_expires_after_its_last_attempt_and_not_before(
        self, make: Callable[..., Webhooks], server: RedisServer
    ) -> None:
        webhooks = make(webhook_log_seconds=0.2)
        both = {put(webhooks), put(webhooks)}

        # Which one comes first is told by the millisecond.
        first = pull(webhooks)
        commit(webhooks, first, DELIVERED)

        until(lambda: len(webhooks.page("default", limit=9)[0]) == 1, what="the delivered one is gone")
        (waiting,) = both - {first.id}
        assert get(webhooks, waiting).status is WAITING
        commit(webhooks, pull(webhooks), DELIVERED)
        until(lambda: not server.client.keys("*deliver*") and not server.client.keys("*settled*"), what="all is gone")

    def test_too_many_push_out_the_oldest(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(max_kept_webhooks=3)
        made = []
        for _ in range(5):
            made.append(put(webhooks))
            commit(webhooks, pull(webhooks), DELIVERED)
            time.sleep(0.002)  # the oldest is told by the millisecond

        assert {delivery.id for delivery in webhooks.page("default", limit=9)[0]} == set(made[2:])
        with pytest.raises(DeliveryNotFound):
            get(webhooks, made[0])

    def test_nothing_is_left_in_the_outbox_of_what_was_delivered(self, webhooks: Webhooks, server: RedisServer) -> None:
        for host in "abc":
            put(webhooks, f"https://{host}.example/")
        for leased in pulled(webhooks):
            commit(webhooks, leased, DELIVERED)

        kinds = ("outbox", "receivers:", "undelivered:", "sending:")
        assert [key for kind in kinds for key in server.client.keys(f"*}}:{kind}*")] == []


class TestOnceMore:
    """Redelivery."""

    @pytest.mark.parametrize("status", [DELIVERED, FAILED])
    def test_what_has_ended_is_sent_again_under_the_same_id(self, webhooks: Webhooks, status: DeliveryStatus) -> None:
        delivery = put(webhooks)
        commit(webhooks, pull(webhooks), status)

        assert webhooks.redeliver("default", delivery)

        again = pull(webhooks)
        assert (again.id, again.attempt, again.payload) == (delivery, 1, b"{}")
        commit(webhooks, again, DELIVERED)
        assert get(webhooks, delivery).status is DELIVERED
        assert [entry.attempt for entry in get(webhooks, delivery).log] == [1, 1]

    def test_what_waits_for_its_next_attempt_is_due_at_once(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        commit(webhooks, pull(webhooks), WAITING, pause_seconds=3600)

        webhooks.redeliver("default", delivery)

        assert pull(webhooks).attempt == 1

    def test_what_is_being_sent_is_not_sent_twice_for_it(self, webhooks: Webhooks) -> None:
        delivery = put(webhooks)
        leased = pull(webhooks)

        assert not webhooks.redeliver("default", delivery)

        assert webhooks.pull(answered=True) is None
        assert commit(webhooks, leased, DELIVERED)

    def test_it_is_kept_until_it_has_ended_anew(self, make: Callable[..., Webhooks], server: RedisServer) -> None:
        webhooks = make(webhook_log_seconds=60)
        delivery = put(webhooks)
        commit(webhooks, pull(webhooks), FAILED)

        webhooks.redeliver("default", delivery)

        keys = [key for kind in ("delivery:", "attempts:", "deliveries:") for key in server.client.keys(f"*}}:{kind}*")]
        assert {server.client.ttl(key) for key in keys} == {-1}
        overview = webhooks.overview("default")
        assert (overview.waiting, overview.ended) == (1, 0)


class TestSecrets:
    """What signs."""

    def test_there_is_none_at_first(self, webhooks: Webhooks) -> None:
        put(webhooks)

        assert webhooks.overview("default").secret is None
        assert pull(webhooks).secrets == ()

    def test_both_sign_after_a_rotation_the_newest_first(self, webhooks: Webhooks) -> None:
        put(webhooks)
        (first, before), (second, after) = webhooks.rotate_secret("default"), webhooks.rotate_secret("default")

        assert pull(webhooks).secrets == (second, first)
        assert before.previous_valid_until is None
        assert after.previous_valid_until is not None
        assert (after.previous_valid_until - after.created_at).total_seconds() == 86_400
        assert webhooks.overview("default").secret == after

    def test_the_one_before_ends(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(webhook_secret_overlap_seconds=0)
        webhooks.rotate_secret("default")
        put(webhooks)

        second, about = webhooks.rotate_secret("default")

        assert about.previous_valid_until is None
        until(lambda: webhooks.overview("default").secret == about)
        assert pull(webhooks).secrets == (second,)

    def test_each_owner_has_its_own(self, webhooks: Webhooks) -> None:
        secrets = {owner: webhooks.rotate_secret(owner)[0] for owner in ("team-a", "team-b")}
        for owner in secrets:
            put(webhooks, owner=owner)

        assert {leased.owner: leased.secrets for leased in pulled(webhooks)} == {
            owner: (secret,) for owner, secret in secrets.items()
        }


class TestCheck:
    """What is seen before a job with a webhook is accepted."""

    def test_a_secret_must_be_there(self, webhooks: Webhooks) -> None:
        with pytest.raises(WebhookSecretMissing, match="POST /webhooks/secret"):
            webhooks.check("default", URL)

    def test_with_one_all_is_well(self, webhooks: Webhooks) -> None:
        webhooks.rotate_secret("default")

        webhooks.check("default", URL)

    def test_a_url_that_can_never_be_called_is_told_first(self, webhooks: Webhooks) -> None:
        with pytest.raises(InvalidRequest) as caught:
            webhooks.check("default", "https://127.0.0.1/")

        assert caught.value.errors[0]["code"] == "forbidden_address"

    def test_an_owner_with_too_many_that_wait_is_told_to(self, make: Callable[..., Webhooks]) -> None:
        webhooks = make(max_waiting_webhooks=2)
        webhooks.rotate_secret("default")
        webhooks.rotate_secret("team-b")
        ended = put(webhooks)
        commit(webhooks, pull(webhooks), DELIVERED)
        for _ in range(2):
            put(webhooks)

        with pytest.raises(LimitReached):
            webhooks.check("default", URL)
        with pytest.raises(LimitReached):
            put(webhooks)
        with pytest.raises(LimitReached):
            webhooks.redeliver("default", ended)
        webhooks.check("team-b", URL)


def test_a_full_redis_keeps_nothing_from_ending(server: RedisServer, webhooks: Webhooks) -> None:
    put(webhooks)
    put(webhooks, "https://b.example/")
    leased = pull(webhooks)
    server.client.config_set("maxmemory", 1)
    try:
        assert webhooks.freeze(leased, b"{}") == b"{}"
        assert commit(webhooks, leased, DELIVERED)
        assert commit(webhooks, pull(webhooks), WAITING, pause_seconds=1)
    finally:
        server.client.config_set("maxmemory", 0)
