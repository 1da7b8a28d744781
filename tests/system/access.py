"""The written table of who may call what (access.csv), and keys of every kind for a service.

`in` is let in: what the route itself answers, whether 200 or 404. "No valid key" is no key, and one that is malformed,
unknown, expired, revoked, rotated away, or has another secret. The last two columns are what a key with every scope but
admin, or an admin's, of another owner gets for an id; they are blank where nobody owns anything.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from examples.small_network import network
from shared.api_keys import ApiKeys, Scope, Wish
from shared.connection import Connections
from shared.keys import Keys
from shared.settings import Settings
from tests.kept import Kept, short_folder, started_again
from tests.processes import Answer, Http
from tests.system.rows import LINEAR
from tests.system.service import Service, scored_file
from tests.system.trainings import line, own_name, trained
from tests.wait import until

ANN, BOB = "team-ann", "team-bob"
NOBODY: Final = {
    **dict.fromkeys(
        ("job_id", "file_id", "content_id", "batch_id", "delivery_id", "key_id", "name", "alias"), "nobody"
    ),
    **dict.fromkeys(("version", "member"), "1"),
}
ROWS: Final = b"x1,x2,x3\n0.1,0.2,0.3\n0.2,0.1,0.0\n"
ONNX: Final[dict[str, Any]] = {"Content_Type": "application/onnx"}
CSV: Final[dict[str, Any]] = {"Content_Type": "text/csv"}

WITHOUT: Final = "no valid key"
STRANGER: Final = "another owner's"
ADMIN_STRANGER: Final = "another owner's by an admin"
ALL_BUT_ADMIN: Final = tuple(scope for scope in Scope if scope != Scope.ADMIN)


def table() -> dict[str, dict[str, str]]:
    """Operation -> column -> in, 401, 403, 404 or blank."""
    with Path(__file__).with_name("access.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["operation"] for row in rows}) == len(rows)
    return {row.pop("operation"): row for row in rows}


class Keyed(Http):
    """A client that sends a key."""

    def __init__(self, port: int, token: str, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self.token = token

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """One request."""
        more.setdefault("Authorization", f"Bearer {self.token}")
        return super().__call__(method, path, body, **more)


def api_keys_of(settings: Settings) -> ApiKeys:
    """The keys of a service."""
    return ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))


@dataclass(frozen=True, kw_only=True)
class KeyRing:
    """Keys of every kind."""

    api_keys: ApiKeys
    port: int

    def client(self, owner: str, *scopes: Scope, name: str = "test") -> Keyed:
        """A client with a new key; without scopes it has all but admin."""
        wish = Wish(name=name, owner=owner, scopes=scopes or ALL_BUT_ADMIN)
        return Keyed(self.port, self.api_keys.create(wish)[1])

    def invalid(self, owner: str) -> dict[str, str | None]:
        """An Authorization header of each kind that lets nobody in; None: no header."""
        wish = Wish(name="invalid", owner=owner, scopes=[Scope.ADMIN])
        _, valid = self.api_keys.create(wish)
        revoked, revoked_token = self.api_keys.create(wish)
        self.api_keys.revoke(revoked.id)
        rotated, rotated_away = self.api_keys.create(wish)
        self.api_keys.rotate(rotated.id, timedelta(0))
        moment = Wish(name="short", owner=owner, scopes=[Scope.ADMIN], lifetime=timedelta(milliseconds=1))
        _, expired = self.api_keys.create(moment)
        until(lambda: self.api_keys.authenticate(expired) is None, 10, "the key has expired")
        other_secret = valid[:-1] + ("A" if valid[-1] != "A" else "B")
        return {
            "none": None,
            "an empty header": "",
            "no token": "Bearer",
            "malformed": "Bearer ft_nonsense",
            "long": f"Bearer {'x' * 5000}",
            "another secret": f"Bearer {other_secret}",
            "unknown": f"Bearer ft_{'0' * 12}_{valid.rpartition('_')[2]}",
            "expired": f"Bearer {expired}",
            "revoked": f"Bearer {revoked_token}",
            "rotated away": f"Bearer {rotated_away}",
            "another scheme": f"Basic {valid}",
            "without a scheme": valid,
            "twice": f"Bearer {valid}, Bearer {valid}",
        }


@dataclass(frozen=True, kw_only=True)
class Place:
    """A service with keys, and what Ann's team has there."""

    service: Service
    ring: KeyRing
    ann: Keyed
    bob: Keyed
    bob_admin: Keyed
    jobs: dict[str, str]  # in what state -> id
    file_id: str
    batch_id: str
    delivery_id: str
    model: str


@contextmanager
def place_of(kept: Kept) -> Iterator[Place]:
    """A service with keys, where one prediction runs at a time; it is ended afterwards."""
    with short_folder() as folder:
        # Nobody listens there: the deliveries wait.
        service = started_again(kept, folder, workers=1, webhook_networks="127.0.0.1", webhook_retry_seconds="3600")
        try:
            nobodys = line(service)
            ring = KeyRing(api_keys=api_keys_of(service.settings), port=service.settings.port)
            ann, bob = ring.client(ANN), ring.client(BOB)
            jobs = jobs_of(ann, nobodys)
            yield Place(
                service=service, ring=ring, ann=ann, bob=bob, bob_admin=ring.client(BOB, Scope.ADMIN), jobs=jobs,
                file_id=ann("POST", "/files", raw=ROWS, **CSV).json["id"], batch_id=batch_of(ann),
                delivery_id=f"msg_{jobs['told']}", model=model_of(ann),
            )  # fmt: skip
        finally:
            service.stop()


def jobs_of(ann: Keyed, trained_model: str) -> dict[str, str]:
    """A job that has ended in each way."""
    assert ann("POST", "/webhooks/secret").status == 201
    url = "http://127.0.0.1:1/hook"
    jobs = {
        "succeeded": ann.submit("linear", [LINEAR], metadata={"secret": "of Ann"}),
        "partially_succeeded": ann.submit("lookup", ["known", "unknown"]),
        "failed": ann.submit("lookup", ["unknown"]),
        "told": ann.submit("linear", [LINEAR], webhook={"url": url}),
        "deleted": ann.submit("linear", [LINEAR]),
    }
    ids = {state: str(ann.done(job["id"])["id"]) for state, job in jobs.items()}
    assert ann("DELETE", f"/jobs/{ids['deleted']}").status == 204
    return ids | {
        "a file": scored_file(ann, ROWS, model="linear")["id"],
        "a training": trained(ann, trained_model)["id"],
    }


def batch_of(http: Http) -> str:
    """A batch of who sends it, in OpenAI's words; its id."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/predictions", "body": {"model": "linear", "input": LINEAR}}
    sent = http("POST", "/files", raw=json.dumps(line).encode(), Content_Type="application/x-ndjson")
    wanted = {"input_file_id": sent.json["id"], "endpoint": "/v1/predictions", "completion_window": "24h"}
    return str(http.done(http("POST", "/v1/batches", wanted).json["id"])["id"])


def model_of(http: Keyed) -> str:
    """A model of who sends it: two versions, a further alias, a schedule; its name."""
    name = own_name("net")
    for _ in range(2):
        sent = http("POST", f"/models/{name}/versions", raw=network(), Prefer="wait=30", **ONNX)
        assert sent.status == 201, sent.body
    for alias, version in (("production", 2), ("canary", 1)):
        assert http("PUT", f"/models/{name}/aliases/{alias}", {"version": version}).status == 200
    return name


def filled(operation: str, **values: str) -> tuple[str, str]:
    """Method and path."""
    method, _, path = operation.partition(" ")
    return method, path.format(**(NOBODY | values))


def outcome(answer: Answer) -> str:
    """As the table says it."""
    assert answer.status < 500 or answer.status == 503, answer.body
    return str(answer.status) if answer.status in (401, 403) else "in"
