"""The model registry: immutable versions with their manifests, and aliases that move between them."""

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.connection import Connections
from shared.errors import ModelNotFound, StoreUnavailable
from shared.keys import Keys
from shared.signature import Signature
from shared.storage import Storage, artifact_key, manifest_key

PRODUCTION: Final = "production"
VERSION: Final = re.compile(r"[0-9]{1,9}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything about a version but its bytes."""

    model: str
    version: int
    format: str  # skops or joblib
    sha256: str
    size_bytes: int
    signature: Signature
    estimator: str  # dotted class name
    libraries: dict[str, str]  # name -> version at registration
    created_at: str
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "signature"} | {
            "signature": self.signature.to_dict()
        }

    @classmethod
    def from_json(cls, raw: bytes) -> "Manifest":
        """From what `to_dict` gave."""
        fields = orjson.loads(raw)
        return cls(**(fields | {"signature": Signature.from_dict(fields["signature"])}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model with all that belongs to it."""

    name: str
    aliases: dict[str, int]
    versions: tuple[Manifest, ...]  # newest first


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


class Registry:
    """Models in Redis and storage, with a cache: manifests never change, and aliases are checked at submit."""

    def __init__(self, connections: Connections, keys: Keys, storage: Storage) -> None:
        self._connections = connections
        self._keys = keys
        self._storage = storage
        self._aliases: dict[tuple[str, str], int] = {}
        self._manifests: dict[tuple[str, int], Manifest] = {}
        self._lock = threading.Lock()

    def resolve(self, requested: str, *, fresh: bool = False) -> Resolved:
        """The version that a reference means; an alias may be remembered unless `fresh`.

        Raises:
            ModelNotFound: with what there is instead.
            StoreUnavailable
        """
        name, member = split_reference(requested)
        if VERSION.fullmatch(member):
            return Resolved(requested=requested, alias=None, manifest=self.manifest(name, int(member)))
        version = None if fresh else self._aliases.get((name, member))
        if version is None:
            found = self._hget(name, f"alias:{member}")
            if found is None:
                self._aliases.pop((name, member), None)
                raise self._not_found(name, member)
            version = self._aliases[name, member] = int(found)
        return Resolved(requested=requested, alias=member, manifest=self.manifest(name, version))

    def manifest(self, name: str, version: int) -> Manifest:
        """The manifest of a version.

        Raises:
            ModelNotFound, StoreUnavailable
        """
        manifest = self._manifests.get((name, version))
        if manifest is None:
            try:
                raw = self._connections.client.get(self._keys.version(name, version))
            except RedisError as error:
                raise StoreUnavailable from error
            if raw is None:
                raise self._not_found(name, str(version))
            manifest = self._manifests[name, version] = Manifest.from_json(raw)
        return manifest

    def _hget(self, name: str, field: str) -> bytes | None:
        try:
            value: bytes | None = self._connections.client.hget(self._keys.model(name), field)
        except RedisError as error:
            raise StoreUnavailable from error
        return value

    def _not_found(self, name: str, member: str) -> ModelNotFound:
        names = self.names()
        if name not in names:
            return ModelNotFound(
                f"There is no model {name!r}; "
                f"there {'are' if len(names) != 1 else 'is'} {', '.join(names) or 'none yet'}."
            )
        model = self.model(name)
        there = [str(manifest.version) for manifest in model.versions] + list(model.aliases)
        return ModelNotFound(f"Model {name!r} has no version or alias {member!r}; it has {', '.join(there)}.")

    def names(self) -> list[str]:
        """Every model's name, in order.

        Raises:
            StoreUnavailable
        """
        try:
            return sorted(name.decode() for name in self._connections.client.smembers(self._keys.models))
        except RedisError as error:
            raise StoreUnavailable from error

    def model(self, name: str) -> Model:
        """A model with its aliases and versions.

        Raises:
            ModelNotFound, StoreUnavailable
        """
        try:
            record: dict[bytes, bytes] = self._connections.client.hgetall(self._keys.model(name))
        except RedisError as error:
            raise StoreUnavailable from error
        if not record:
            raise self._not_found(name, PRODUCTION)
        aliases = {
            field.removeprefix(b"alias:").decode(): int(value)
            for field, value in record.items()
            if field.startswith(b"alias:")
        }
        versions = sorted((int(field.removeprefix(b"v:")) for field in record if field.startswith(b"v:")), reverse=True)
        return Model(
            name=name,
            aliases=dict(sorted(aliases.items())),
            versions=tuple(self.manifest(name, version) for version in versions),
        )

    def artifact(self, manifest: Manifest) -> bytes:
        """The bytes of a version, not yet verified.

        Raises:
            StorageFailed
        """
        return self._storage.get(artifact_key(manifest.model, manifest.version))

    def add(
        self,
        name: str,
        artifact: bytes,
        *,
        sha256: str,
        format: str,
        signature: Signature,
        estimator: str,
        libraries: dict[str, str],
        description: str = "",
        alias: str = PRODUCTION,
    ) -> Manifest:  # the manifest's word
        """Register a new version: files first, then the index, so that a version that can be seen is complete.

        Raises:
            StorageFailed, StoreUnavailable
        """
        client, key = self._connections.client, self._keys.model(name)
        try:
            version = int(client.hincrby(key, "last", 1))
            manifest = Manifest(
                model=name,
                version=version,
                format=format,
                sha256=sha256,
                size_bytes=len(artifact),
                signature=signature,
                estimator=estimator,
                libraries=libraries,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                description=description,
            )
            raw = orjson.dumps(manifest.to_dict(), option=orjson.OPT_INDENT_2)
            self._storage.put(artifact_key(name, version), artifact)
            self._storage.put(manifest_key(name, version), raw)
            pipeline = client.pipeline(transaction=True)
            pipeline.set(self._keys.version(name, version), raw)
            pipeline.hset(key, mapping={f"v:{version}": 1, f"alias:{alias}": version})
            pipeline.sadd(self._keys.models, name)
            pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        return manifest
