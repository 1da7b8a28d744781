"""What the registry holds, read from Redis: models, their versions and aliases."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.aliases import PRODUCTION, AliasState, load_state
from shared.connection import Connections
from shared.errors import ModelNotFound, StoreUnavailable
from shared.keys import Keys
from shared.manifest import Manifest
from shared.registry_copy import numbered
from shared.storage import Storage, artifact_key

VERSION: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model with all that belongs to it."""

    name: str
    aliases: dict[str, int]
    versions: tuple[Manifest, ...]  # newest first
    owner: str | None = None  # who alone may change it; None: nobody in particular


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A request for a model, pinned to a version."""

    requested: str
    alias: str | None  # None if the version was named
    manifest: Manifest


def split_reference(requested: str) -> tuple[str, str]:
    """`name`, `name@3` or `name@alias` as (name, version or alias); the default is production."""
    name, _, member = requested.partition("@")
    return name, member or PRODUCTION


class Catalogue:
    """Models in Redis, with a cache: manifests never change, and aliases are checked at submit."""

    def __init__(self, connections: Connections, keys: Keys, storage: Storage) -> None:
        self._connections = connections
        self._keys = keys
        self._storage = storage
        self._aliases: dict[tuple[str, str], int] = {}
        self._manifests: dict[tuple[str, int], Manifest] = {}

    def resolve(self, requested: str, *, fresh: bool = False) -> Resolved:
        """The version that a reference means; what was seen before may be remembered unless `fresh`.

        Raises:
            ModelNotFound: with what there is instead.
            StoreUnavailable
        """
        name, member = split_reference(requested)
        if VERSION.fullmatch(member):
            return Resolved(requested=requested, alias=None, manifest=self.manifest(name, int(member), fresh=fresh))
        version = None if fresh else self._aliases.get((name, member))
        if version is None or (name, version) not in self._manifests:
            found = self._field(name, f"alias:{member}")
            if found is None:
                self._aliases.pop((name, member), None)
                raise self._not_found(name, member)
            version = self._aliases[name, member] = int(found)
        return Resolved(requested=requested, alias=member, manifest=self.manifest(name, version, fresh=fresh))

    def manifest(self, name: str, version: int, *, fresh: bool = False) -> Manifest:
        """The manifest of a version; one that was deleted since it was seen may be remembered unless `fresh`.

        Raises:
            ModelNotFound, StoreUnavailable
        """
        if fresh and self._field(name, f"v:{version}") is None:
            self._manifests.pop((name, version), None)
        manifest = self._manifests.get((name, version))
        if manifest is None:
            raw = self._raw(name, version)
            if raw is None:
                raise self._not_found(name, str(version))
            manifest = self._manifests[name, version] = Manifest.from_json(raw)
        return manifest

    def names(self) -> list[str]:
        """Every model's name, in order.

        Raises:
            StoreUnavailable
        """
        with reached():
            return sorted(name.decode() for name in self._connections.client.smembers(self._keys.models))

    def model(self, name: str) -> Model:
        """A model with its aliases and versions.

        Raises:
            ModelNotFound, StoreUnavailable
        """
        with reached():
            record: dict[bytes, bytes] = self._connections.client.hgetall(self._keys.model(name))
        versions = []
        for version in sorted(map(int, numbered(record, "v")), reverse=True):
            with contextlib.suppress(ModelNotFound):  # it was deleted just now
                versions.append(self.manifest(name, version))
        if not versions:
            raise self._not_found(name, "")
        aliases, owner = dict(sorted(numbered(record, "alias").items())), record.get(b"owner")
        return Model(
            name=name, aliases=aliases, versions=tuple(versions), owner=None if owner is None else owner.decode()
        )

    def artifact(self, manifest: Manifest, file: str | None = None) -> bytes:
        """The bytes of a version, or of another file in its folder, not yet verified.

        Raises:
            StorageFailed
        """
        return self._storage.get(artifact_key(manifest.model, manifest.version, file or manifest.artifact))

    def alias(self, name: str, alias: str) -> AliasState:
        """Where an alias points.

        Raises:
            ModelNotFound, StoreUnavailable
        """
        fields = [f"{kind}:{alias}" for kind in ("alias", "revision", "moved")]
        with reached():
            state = load_state(alias, self._connections.client.hmget(self._keys.model(name), fields))
        if state is None:
            raise self._not_found(name, alias)
        return state

    def history(self, name: str, alias: str) -> list[dict[str, Any]]:
        """The moves of an alias, newest first, each {at (ms since 1970), alias, from, to, who, why, job_id, details}.

        The newest `MOST_MOVES` are kept, also of an alias that was removed.

        Raises:
            StoreUnavailable
        """
        with reached():
            entries = self._connections.client.lrange(self._keys.history(name, alias), 0, -1)
        return [orjson.loads(entry) for entry in entries]

    def pointed_to(self, name: str) -> frozenset[int]:
        """The versions that an alias of a model points to, or pointed to as far back as the history goes.

        Raises:
            StoreUnavailable
        """
        with reached():
            record: dict[bytes, bytes] = self._connections.client.hgetall(self._keys.model(name))
        moves = map(orjson.loads, self._moves(name, record))
        before = (version for move in moves for version in (move["from"], move["to"]) if version is not None)
        return frozenset((*numbered(record, "alias").values(), *before))

    def _moves(self, name: str, record: Mapping[bytes, bytes]) -> list[bytes]:
        """The moves of all aliases of a model, also of those that were removed; of each the newest first."""
        with reached():
            pipeline = self._connections.client.pipeline(transaction=True)
            for alias in sorted({*numbered(record, "alias"), *numbered(record, "revision")}):
                pipeline.lrange(self._keys.history(name, alias), 0, -1)
            return [entry for moves in pipeline.execute() for entry in moves]

    def _members(self, key: str) -> list[str]:
        with reached():
            return sorted(member.decode() for member in self._connections.client.smembers(key))

    def _field(self, name: str, field: str) -> bytes | None:
        with reached():
            value: bytes | None = self._connections.client.hget(self._keys.model(name), field)
        return value

    def _raw(self, name: str, version: int) -> bytes | None:
        with reached():
            raw: bytes | None = self._connections.client.get(self._keys.version(name, version))
        return raw

    def _not_found(self, name: str, member: str) -> ModelNotFound:
        names = self.names()
        if name not in names:
            return ModelNotFound(
                f"There is no model {name!r}; "
                f"there {'are' if len(names) != 1 else 'is'} {', '.join(names) or 'none yet'}."
            )
        with reached():
            record = self._connections.client.hgetall(self._keys.model(name))
        there = sorted(map(int, numbered(record, "v")), reverse=True)
        named = [*map(str, there), *sorted(numbered(record, "alias"))]
        return ModelNotFound(f"Model {name!r} has no version or alias {member!r}; it has {', '.join(named)}.")


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Say in our own words that Redis cannot be reached.

    Raises:
        StoreUnavailable
    """
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable from error
