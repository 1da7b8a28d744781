"""Webhooks in Redis: the outbox of deliveries, what came of them, and the secrets that sign them.

A delivery is put into the outbox by the script that ends its job (`finish` in lua/prelude.lua), so that none is lost.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from shared.connection import Connections
from shared.delivery import Delivery, DeliveryStatus, Leased, load_delivery, load_leased, new_delivery_id
from shared.errors import DeliveryNotFound, LimitReached, WebhookSecretMissing
from shared.job import from_millis
from shared.keys import Keys
from shared.networks import networks_of
from shared.receiver import Receiver
from shared.script import loaded
from shared.settings import Settings

SCRIPTS: Final = (
    *("delivery_pull", "delivery_freeze", "delivery_commit", "deliveries_due"),
    *("delivery_put", "redeliver", "deliveries", "delivery", "webhooks", "webhook_secret"),
)
# Deliveries that one request looks at for a filter.
LIST_SCAN: Final = 2000
# Standard Webhooks, "Signature scheme": 24 to 64 random bytes.
SECRET_BYTES: Final = 32
# How much longer than a send a lease is: it must not end while the outcome of one is being written.
LEASE_MARGIN_SECONDS: Final = 10.0


def limits_of_ends(settings: Settings) -> str:
    """What outbox.lua needs to know when a job with a webhook ends; it is kept with the job until then."""
    kept_millis = int(settings.webhook_log_seconds * 1000)
    return f"{settings.max_waiting_webhooks} {kept_millis} {settings.max_kept_webhooks}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """When the secret of an owner was made, and until when the one before signs too."""

    created_at: datetime
    previous_valid_until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What an owner has of webhooks."""

    secret: Secret | None
    waiting: int  # deliveries that have not ended
    ended: int  # those that have, and are kept


class Webhooks:
    """Deliveries and secrets, each of one owner."""

    def __init__(self, connections: Connections, keys: Keys, settings: Settings) -> None:
        self._connections = connections
        self._keys = keys
        self._settings = settings
        self._networks = networks_of(settings.webhook_networks)
        self._scripts = loaded(SCRIPTS)

    def _run(self, name: str, *arguments: Any) -> Any:
        return self._connections.script(self._scripts[name], self._keys.base, *arguments)

    # For the API

    def overview(self, owner: str) -> Overview:
        """What an owner has.

        Raises:
            StoreUnavailable
        """
        created, until, waiting, ended = self._run("webhooks", owner)
        created_at = from_millis(created)
        secret = created_at and Secret(created_at=created_at, previous_valid_until=from_millis(until))
        return Overview(secret=secret or None, waiting=waiting, ended=ended)

    def check(self, owner: str, url: str, pointer: str = "/webhook/url") -> None:
        """See that an owner may have something sent to `url`.

        Raises:
            InvalidRequest: the url can never be called.
            WebhookSecretMissing, LimitReached, StoreUnavailable
        """
        Receiver.parse(url, self._networks, pointer)
        if self.check_room(owner).secret is None:
            raise WebhookSecretMissing

    def check_room(self, owner: str) -> Overview:
        """See that no more of an owner's wait than may; what it has.

        Raises:
            LimitReached, StoreUnavailable
        """
        there = self.overview(owner)
        if there.waiting >= self._settings.max_waiting_webhooks:
            raise self._too_many()
        return there

    def rotate_secret(self, owner: str) -> tuple[str, Secret]:
        """Make the secret of an owner, or another one; nobody can read it later.

        Raises:
            StoreUnavailable, StoreFull
        """
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"
        overlap_millis = self._settings.webhook_secret_overlap_seconds * 1000
        created, *until = self._run("webhook_secret", owner, secret, overlap_millis)
        created_at = from_millis(created)
        assert created_at is not None  # noqa: S101  # the script has just written it
        previous_until = from_millis(until[0]) if until and overlap_millis else None
        return secret, Secret(created_at=created_at, previous_valid_until=previous_until)

    def put(self, owner: str, url: str, type: str, payload: bytes) -> tuple[str, bool]:
        """Have something sent that belongs to no job; its id, and whether a doorbell must be published.

        Raises:
            LimitReached, StoreUnavailable, StoreFull
        """
        new_id = new_delivery_id()
        reply = self._run("delivery_put", new_id, owner, url, type, payload, self._settings.max_waiting_webhooks)
        if reply == b"full":
            raise self._too_many()
        return new_id, reply == 1

    def redeliver(self, owner: str, delivery_id: str) -> bool:
        """Send a delivery once more, from its first attempt on; True: a doorbell must be published.

        Raises:
            DeliveryNotFound, LimitReached, StoreUnavailable, StoreFull
        """
        reply = self._run("redeliver", owner, delivery_id, self._settings.max_waiting_webhooks)
        if reply == b"unknown":
            raise DeliveryNotFound(f"There is no delivery {delivery_id[:100]}.")
        if reply == b"full":
            raise self._too_many()
        return bool(reply == 1)

    def get(self, owner: str, delivery_id: str) -> Delivery:
        """A delivery, with its payload and its log.

        Raises:
            DeliveryNotFound, StoreUnavailable
        """
        entry = self._run("delivery", owner, delivery_id)
        if entry is None:
            raise DeliveryNotFound(f"There is no delivery {delivery_id[:100]}.")
        return load_delivery(entry)

    def page(self, owner: str, *, limit: int, cursor: str = "", status: str = "") -> tuple[list[Delivery], str | None]:
        """Deliveries, newest first, and the cursor of the next page; a rare status may make a page shorter.

        Raises:
            StoreUnavailable
        """
        following, *entries = self._run("deliveries", owner, cursor, limit, status, LIST_SCAN)
        return [load_delivery(entry) for entry in entries], following.decode() or None

    def _too_many(self) -> LimitReached:
        return LimitReached(
            f"{self._settings.max_waiting_webhooks} webhooks wait to be delivered; see under /webhooks/deliveries why.",
            limit="waiting_webhooks",
            retry_after_seconds=60,
        )

    # For workers

    def pull(self, *, answered: bool) -> Leased | None:
        """Lease a delivery that is due, its attempt counted; None: there is nothing to do.

        `answered`: a doorbell is being answered.

        Raises:
            StoreUnavailable, StoreFull
        """
        settings = self._settings
        reply = self._run(
            "delivery_pull", int((settings.webhook_timeout_seconds + LEASE_MARGIN_SECONDS) * 1000),
            max(1, settings.webhook_senders // 4), max(1, settings.webhook_senders * 3 // 4),
            1 + len(settings.webhook_pauses), int(answered),
        )  # fmt: skip
        return None if reply is None else load_leased(reply)

    def freeze(self, leased: Leased, payload: bytes) -> bytes | None:
        """Keep what is sent, at the first attempt; what counts, or None if the lease was lost.

        Raises:
            StoreUnavailable, StoreFull
        """
        kept: bytes | None = self._run("delivery_freeze", leased.id, leased.fence, payload)
        return kept

    def commit(
        self, leased: Leased, status: DeliveryStatus, entry: Mapping[str, Any], *, pause_seconds: float = 0
    ) -> bool:
        """Write what came of an attempt; False if the lease was lost.

        Args:
            leased: what was sent.
            status: waiting: it is tried again, after `pause_seconds`.
            entry: of the log: attempt, at (milliseconds), status, error, milliseconds.
            pause_seconds: until the next attempt.

        Raises:
            StoreUnavailable, StoreFull
        """
        reply = self._run(
            "delivery_commit", leased.id, leased.fence, status.value, int(pause_seconds * 1000), orjson.dumps(entry),
            int(self._settings.webhook_log_seconds * 1000), self._settings.max_kept_webhooks,
        )  # fmt: skip
        return bool(reply == 1)

    def due(self) -> bool:
        """Whether something is due and a doorbell must be published.

        Raises:
            StoreUnavailable, StoreFull
        """
        return bool(self._run("deliveries_due") == 1)
