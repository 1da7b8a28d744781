"""Keys for the API: who holds one, what it allows, and whether it is still valid. Only a hash of each is kept."""

import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson
from redis.exceptions import OutOfMemoryError, RedisError

from shared.connection import Connections
from shared.errors import InvalidRequest, KeyNeeded, KeyNotFound, StoreFull, StoreUnavailable
from shared.job import from_millis
from shared.keys import Keys
from shared.limits import NAMES, checked_limits
from shared.owner import DEFAULT_OWNER, check_owner
from shared.schema import SCHEMA, current
from shared.script import loaded

# ft_, 12 hex digits that name the key, and 256 random bits as base64url without padding. It tells a scanner for leaked
# secrets what it is.
TOKEN: Final = re.compile(r"ft_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
LONGEST_NAME: Final = 100
LONGEST_OVERLAP: Final = timedelta(days=365)
SCRIPTS: Final = ("key_put", "key_rotate", "key_revoke", "key_delete", "key_used")
# How exact `last_used_at` is.
USED_MILLIS: Final = 60_000


class Scope(StrEnum):
    """What a key allows; admin allows all of it, and to look after keys."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    TRAIN = "train"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None
    previous_until: datetime | None = None  # how long the secret before the last rotation is valid too
    limits: Mapping[str, int] = field(default_factory=dict)  # in place of those of the settings

    def state(self, now: datetime) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a key shall be.

    Raises:
        InvalidRequest: name, owner, scopes or limits are not allowed.
    """

    name: str
    owner: str = DEFAULT_OWNER
    scopes: Sequence[str] = ()
    lifetime: timedelta | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check it."""
        if not 1 <= len(self.name.strip()) <= LONGEST_NAME or not self.name.isprintable():
            raise _fault("name", f"A key has a name of 1 to {LONGEST_NAME} printable characters.")
        check_owner(self.owner)
        unknown = [scope for scope in self.scopes if scope not in list(Scope)]
        if unknown or not self.scopes:
            found = f"{unknown[0][:100]} is no scope" if unknown else "A key needs a scope"
            raise _fault("scopes", f"{found}; there are {', '.join(Scope)}.")
        if self.lifetime is not None and not timedelta(0) < self.lifetime <= timedelta(days=36_500):
            raise _fault("expires", "A key expires in the future, within a hundred years.")
        checked_limits(self.limits)


class ApiKeys:
    """The keys, in Redis."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections = connections
        self._keys = keys
        self._scripts = loaded(SCRIPTS)

    def create(self, wish: Wish) -> tuple[ApiKey, str]:
        """Make a key; returned with the token, which nobody can find out later.

        Raises:
            StoreUnavailable, StoreFull
        """
        key_id = secrets.token_hex(6)
        token = _token(key_id)
        lifetime = "" if wish.lifetime is None else max(1, int(wish.lifetime.total_seconds() * 1000))
        about = {
            "name": wish.name.strip(),
            "owner": wish.owner,
            "scopes": " ".join(sorted(set(wish.scopes))),
            "limits": orjson.dumps(dict(wish.limits)).decode(),
            "schema": SCHEMA,
        }
        self._run("key_put", key_id, digest_of(token), lifetime, *(part for pair in about.items() for part in pair))
        return self.get(key_id), token

    def get(self, key_id: str) -> ApiKey:
        """A key.

        Raises:
            KeyNotFound, NewerSchema, StoreUnavailable
        """
        record = self._client("hgetall", self._keys.api_key(key_id))
        if not record:
            raise KeyNotFound(f"There is no key {key_id[:100]}.")
        return _load(key_id, record)

    def all(self) -> list[ApiKey]:
        """Every key, the newest first, also those that are expired or revoked.

        Raises:
            NewerSchema, StoreUnavailable
        """
        ids = [raw.decode() for raw in self._client("smembers", self._keys.api_keys)]
        records = ((key_id, self._client("hgetall", self._keys.api_key(key_id))) for key_id in ids)
        found = [_load(key_id, record) for key_id, record in records if record]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    def rotate(self, key_id: str, overlap: timedelta) -> tuple[ApiKey, str]:
        """Give a key a new secret; the one before stays valid for `overlap`, and the one before that ends.

        Raises:
            KeyNotFound: there is none, or it is expired or revoked.
            InvalidRequest: the overlap is too long.
            StoreUnavailable, StoreFull
        """
        token = _token(key_id)
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise _fault("overlap", f"The secret before stays valid for at most {LONGEST_OVERLAP.days} days.")
        overlap_millis = int(overlap.total_seconds() * 1000)
        if not self._run("key_rotate", key_id, digest_of(token), overlap_millis):
            raise KeyNotFound(f"There is no key {key_id[:100]} that is valid.")
        return self.get(key_id), token

    def revoke(self, key_id: str) -> None:
        """End a key for ever; once more changes nothing.

        Raises:
            KeyNotFound, StoreUnavailable
        """
        if not self._run("key_revoke", key_id):
            raise KeyNotFound(f"There is no key {key_id[:100]}.")

    def delete(self, key_id: str) -> None:
        """Forget a key that is revoked or expired, but not the last: without any the service asks nobody for one.

        Raises:
            KeyNotFound, KeyNeeded, StoreUnavailable
        """
        match self._run("key_delete", key_id):
            case b"unknown":
                raise KeyNotFound(f"There is no key {key_id[:100]}.")
            case b"active":
                raise KeyNeeded(f"The key {key_id} is valid; revoke it first.")
            case b"last":
                raise KeyNeeded

    def exist(self) -> bool:
        """Whether there is any key, also if none is valid.

        Raises:
            StoreUnavailable
        """
        return bool(self._client("exists", self._keys.api_keys))

    def authenticate(self, token: str) -> ApiKey | None:
        """The valid key that a token belongs to, or None; noted as used.

        Digests are compared in constant time, and an unknown key takes as long as a known one, but for Redis.

        Raises:
            NewerSchema, StoreUnavailable
        """
        parsed = TOKEN.fullmatch(token)
        given, key_id = digest_of(token), parsed[1] if parsed else ""
        pipeline = self._connections.client.pipeline(transaction=False)
        pipeline.hgetall(self._keys.api_key(key_id))
        pipeline.time()
        try:
            record, (seconds, micros) = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        now = seconds * 1000 + micros // 1000
        current = hmac.compare_digest(given, record.get(b"digest", b"").decode())
        previous = hmac.compare_digest(given, record.get(b"previous", b"").decode())
        in_overlap = previous and int(record.get(b"until") or 0) > now
        if not (current or in_overlap):
            return None
        key = _load(key_id, record)
        if key.state(datetime.fromtimestamp(now / 1000, UTC)) != "active":
            return None
        if now - int(record.get(b"used") or 0) > USED_MILLIS:
            # To be told when a key was used is worth less than to be let in where Redis takes no writes.
            with contextlib.suppress(StoreFull, StoreUnavailable):
                self._run("key_used", key_id)
        return key

    def _client(self, command: str, *arguments: Any) -> Any:
        try:
            return getattr(self._connections.client, command)(*arguments)
        except OutOfMemoryError as error:
            raise StoreFull from error
        except RedisError as error:
            raise StoreUnavailable from error

    def _run(self, name: str, *arguments: Any) -> Any:
        return self._connections.script(self._scripts[name], self._keys.base, *arguments)


def digest_of(token: str) -> str:
    """The SHA-256 of a token: enough for 256 random bits, which nobody can guess however fast the hash is."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def _token(key_id: str) -> str:
    return f"ft_{key_id}_{secrets.token_urlsafe(32)}"


def _load(key_id: str, record: Mapping[bytes, bytes]) -> ApiKey:
    """A key as it is kept.

    Raises:
        NewerSchema: it may allow less than what is known of it here says.
    """
    current("key", {"schema": int(record.get(b"schema", 1))})
    created_at = from_millis(record[b"created"])
    assert created_at is not None  # noqa: S101  # key_put.lua writes it with the key
    return ApiKey(
        id=key_id,
        name=record[b"name"].decode(),
        owner=record[b"owner"].decode(),
        scopes=frozenset(Scope(scope) for scope in record[b"scopes"].decode().split() if scope in list(Scope)),
        created_at=created_at,
        expires_at=from_millis(record.get(b"expires")),
        last_used_at=from_millis(record.get(b"used")),
        revoked_at=from_millis(record.get(b"revoked")),
        previous_until=from_millis(record.get(b"until")),
        # Another version of the service may know other limits.
        limits={name: most for name, most in orjson.loads(record.get(b"limits", b"{}")).items() if name in NAMES},
    )


def _fault(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": f"/{name}", "code": f"bad_{name}", "message": message}])
