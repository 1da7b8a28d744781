"""The model registry: immutable versions with their manifests, and aliases that move between them.

What counts is what Redis holds, and every change of it is one script. Storage holds the artifacts, and a copy of all
the rest from which the registry can be rebuilt.
"""

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from shared.aliases import (
    ANY,
    MOST_MOVES,
    NAME,
    PRODUCTION,
    AliasState,
    Any_,
    Move,
    back,
    check_alias,
    entry_of,
    load_state,
)
from shared.catalogue import Model, Resolved, reached
from shared.errors import (
    AliasConflict,
    AliasNeeded,
    Forbidden,
    LimitReached,
    NothingToRollBack,
    StorageFailed,
    StoreUnavailable,
    VersionInUse,
)
from shared.manifest import Manifest
from shared.owner import DEFAULT_OWNER, check_owner
from shared.records import LeaseLost
from shared.registry_copy import stored_models
from shared.registry_upkeep import Upkeep
from shared.storage import artifact_key, version_prefix

__all__ = ["ANY", "NAME", "PRODUCTION", "AliasState", "Any_", "Manifest", "Model", "Move", "Registry", "Resolved"]

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Registry(Upkeep):
    """The catalogue, and how it changes."""

    def reserve(self, name: str, token: str) -> int:
        """The number of a version that is to be made; the same token, such as a job's id, has the same number.

        Raises:
            StoreUnavailable, StoreFull, StorageFailed
        """
        with reached():
            last, known = self._connections.client.hmget(self._keys.model(name), "last", f"job:{token}")
        # Redis may have been emptied, or be older than storage: what is there must neither be numbered nor copied over.
        if last is None or (known is None and any(self._storage.list(version_prefix(name, int(last) + 1)))):
            self._restore(name, stored_models(self._storage, name).get(name, frozenset()))
        return int(self._run("reserve", name, token))

    def made(self, name: str, token: str) -> Manifest | None:
        """What is registered under the number that was reserved by this token; None: nothing yet.

        Raises:
            ModelNotFound: it was deleted just now.
            StoreUnavailable
        """
        number = self._field(name, f"job:{token}")
        if number is None or self._field(name, f"v:{int(number)}") is None:
            return None
        return self.manifest(name, int(number))

    def store(self, manifest: Manifest, artifact: bytes | memoryview, extra: Mapping[str, bytes] = NOTHING) -> None:
        """Write the files of a version that is to be registered: its artifact, and others by name.

        Raises:
            StorageFailed, StorageFull
        """
        for file, data in {**extra, manifest.artifact: artifact}.items():
            self._storage.put(artifact_key(manifest.model, manifest.version, file), data)

    def add(
        self,
        manifest: Manifest,
        artifact: bytes | memoryview | None,
        *,
        move: Move | None = None,
        fence: str | None = None,
        owner: str = "",
        extra: Mapping[str, bytes] = NOTHING,
    ) -> Manifest:
        """Register a version, and move an alias to it in the same step.

        Files come first, so that a version that can be seen is complete. Until then nothing is visible, and a version
        that is registered already stays as it is: work that is done again changes nothing.

        Args:
            manifest: of the version, whose number was reserved.
            artifact: its bytes; None: `store` has written the files.
            move: of an alias to it.
            fence: of the unit that makes it; its job can be cancelled no more once the version is registered.
            owner: of the model if this is its first version and it comes from no job; empty: nobody's.
            extra: other files of the version, by name.

        Returns:
            The manifest that is registered.

        Raises:
            InvalidRequest: no alias can be called so.
            AliasConflict: the alias does not point to the version that was expected.
            LeaseLost: another attempt has the unit by now, or its job was cancelled.
            Forbidden: the model is another owner's than the job, and the job may not change those.
            ModelNotFound: the version was deleted already.
            StorageFailed, StorageFull, StoreUnavailable, StoreFull
        """
        if move is not None and move.version != manifest.version:
            raise ValueError(f"a move to {move.version} came with version {manifest.version}")
        name, version = manifest.model, manifest.version
        if artifact is not None:
            self.store(manifest, artifact, extra)
        raw = orjson.dumps(manifest.to_dict(), option=orjson.OPT_INDENT_2)
        kept, _ = self._register(name, version, raw, move, fence=fence, owner=owner)
        self._try_copy(name)
        return Manifest.from_json(kept)

    def move(self, name: str, move: Move, *, revision: int | None = None) -> AliasState:
        """Point an alias at a version that is there; one that points there already stays as it is.

        Args:
            name: the model.
            move: the wish.
            revision: that the alias must have; None for any.

        Raises:
            InvalidRequest: no alias can be called so.
            AliasConflict, ModelNotFound, StoreUnavailable, StoreFull
        """
        _, state = self._register(name, move.version, b"", move, revision=revision)
        self._try_copy(name)
        return state

    def rollback(
        self,
        name: str,
        *,
        alias: str = PRODUCTION,
        who: str,
        why: str,
        revision: int | None = None,
        details: Mapping[str, Any] = NOTHING,
    ) -> AliasState:
        """Point an alias back at the version before; twice goes two versions back. Deleted versions are skipped.

        Raises:
            NothingToRollBack: no version before this one is left.
            AliasConflict: the alias was moved meanwhile, or has another revision than the one given.
            ModelNotFound, StoreUnavailable, StoreFull
        """
        now, there = self.alias(name, alias), frozenset(manifest.version for manifest in self.model(name).versions)
        target = back(self.history(name, alias), there)
        if target is None:
            raise NothingToRollBack(
                f"No earlier version of {name} that {alias} pointed to is left; it stays at {now.version}."
            )
        move = Move(
            alias=alias,
            version=target,
            expected=now.version,
            who=who,
            why=why,
            details={**details, "rollback": True},
        )
        return self.move(name, move, revision=now.revision if revision is None else revision)

    def unalias(
        self,
        name: str,
        alias: str,
        *,
        who: str,
        why: str,
        revision: int | None = None,
        details: Mapping[str, Any] = NOTHING,
    ) -> None:
        """Remove an alias other than production.

        Raises:
            AliasNeeded: it is production.
            AliasConflict: it has another revision than the one given.
            ModelNotFound, StoreUnavailable, StoreFull
        """
        if alias == PRODUCTION:
            self.alias(name, alias)
            raise AliasNeeded(f"{AliasNeeded().message} DELETE /models/{name} removes the whole model.")
        entry = entry_of(alias, None, who=who, why=why, details=details)
        match self._run("unalias", name, alias, "" if revision is None else revision, entry, MOST_MOVES):
            case [b"unknown"]:
                raise self._not_found(name, alias)
            case [b"conflict", points_to, at]:
                raise _conflict(name, alias, points_to, at)
        self._aliases.pop((name, alias), None)
        self._try_copy(name)

    def owner(self, name: str) -> tuple[bool, str | None]:
        """Whether there is a model of this name, and whose it is; None: nobody's.

        Raises:
            StoreUnavailable
        """
        client = self._connections.client
        try:
            exists = client.sismember(self._keys.models, name)
            owner = client.hget(self._keys.model(name), "owner") if exists else None
        except RedisError as error:
            raise StoreUnavailable from error
        return bool(exists), None if owner is None else owner.decode()

    def hand_over(self, name: str, owner: str) -> None:
        """Make a model another owner's; empty: nobody's in particular.

        Raises:
            InvalidRequest: nobody can be called so.
            ModelNotFound, StoreUnavailable, StoreFull
        """
        check_owner(owner or DEFAULT_OWNER)
        if not self._run("hand_over", name, owner):
            raise self._not_found(name, "")
        self._try_copy(name)

    def count_owned(self, owner: str) -> int:
        """How many models an owner has.

        Raises:
            StoreUnavailable
        """
        try:
            return int(self._connections.client.scard(self._keys.owned(owner)))
        except RedisError as error:
            raise StoreUnavailable from error

    def delete(self, name: str, version: int, *, told: str = "") -> None:
        """Remove a version that nothing needs; its number is never used again. A model goes with its last version.

        `told`: the owner who is told which of its own jobs need it, and of others only how many; empty: of all, which.

        Raises:
            VersionInUse: an alias points to it, or an unfinished job needs it.
            ModelNotFound, StoreUnavailable
        """
        self._delete(name, str(version), told)

    def delete_model(self, name: str, *, told: str = "") -> list[int]:
        """Remove a model with its versions, aliases, history, schedule and windows of drift; the versions that it had.

        Versions of a later model of that name have other numbers, and its aliases other revisions.

        `told`: as of `delete`.

        Raises:
            VersionInUse: an unfinished job needs one of its versions, or makes one.
            ModelNotFound, StoreUnavailable
        """
        return self._delete(name, "", told)

    def _delete(self, name: str, version: str, told: str) -> list[int]:
        member = f"{name}@{version}".rstrip("@")
        match self._run("delete_version", name, version, told):
            case [b"unknown"]:
                raise self._not_found(name, version)
            case [b"alias", *aliases]:
                named = ", ".join(sorted(alias.decode() for alias in aliases))
                raise VersionInUse(
                    f"{member} is in use: {named} points to it; move that first. "
                    f"DELETE /models/{name} removes the whole model."
                )
            case [b"jobs", waiting, running, others, *staged]:
                named = "".join(f", job {job_id.decode()}" for job_id in staged[:3])
                counted = f", {others} over files or of training are other owners'" if others else ""
                raise VersionInUse(
                    f"{member} is in use by unfinished jobs: {waiting} wait and {running} micro-batches run{named}"
                    f"{counted}; cancel them, or wait."
                )
            case [b"deleted", *deleted]:
                for number in deleted:
                    self._manifests.pop((name, number), None)
                    with contextlib.suppress(StorageFailed):  # the janitor tries again
                        self.remove(f"{name}@{number}")
        self._try_copy(name)
        return sorted(deleted)

    def _register(
        self,
        name: str,
        version: int,
        raw: bytes,
        move: Move | None,
        *,
        fence: str | None = None,
        revision: int | None = None,
        owner: str = "",
    ) -> tuple[bytes, AliasState]:
        """Run register.lua: the manifest that is registered, and where the alias points."""
        if move is not None:
            check_alias(move.alias)
        alias, expected = ("", None) if move is None else (move.alias, move.expected)
        reply = self._run(
            "register", name, version, raw, fence or "", alias,
            "*" if expected is ANY else "" if expected is None else expected,
            "" if revision is None else revision, b"" if move is None else move.entry(), MOST_MOVES, owner,
        )  # fmt: skip
        match reply:
            case [b"done", kept, *fields]:
                state = load_state(alias, [field or None for field in fields])
                return kept, state or AliasState(alias=alias, version=version, revision=0, moved_at=None)
            case [b"conflict", points_to, at]:
                raise _conflict(name, alias, points_to, at)
            case [b"lost"]:
                raise LeaseLost
            case [b"too_many"]:
                raise LimitReached(
                    "You have as many models as you may; delete one, or have the limit raised.", limit="models"
                )
            case [b"foreign"]:
                raise Forbidden(f"Somebody else has made a model {name} meanwhile, and alone may change it.")
            case _:
                raise self._not_found(name, str(version))


def _conflict(name: str, alias: str, points_to: bytes, revision: bytes) -> AliasConflict:
    where = f"points to {points_to.decode()}" if points_to else "does not exist"
    return AliasConflict(
        f"{alias} of {name} was moved meanwhile: it {where} now. Read it again, and decide anew.",
        version=int(points_to) if points_to else None,
        revision=int(revision),
    )
