"""The model registry: immutable versions with their manifests, and aliases that move between them.

What counts is what Redis holds, and every change of it is one script. Storage holds the artifacts, and a copy of all
the rest from which the registry can be rebuilt.
"""

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from shared.aliases import ANY, MOST_MOVES, NAME, PRODUCTION, AliasState, Any_, Move, back, check_alias, load_state
from shared.catalogue import Catalogue, Model, Resolved, reached
from shared.connection import Connections, loaded
from shared.errors import AliasConflict, NothingToRollBack, StorageFailed, StoreFull, StoreUnavailable, VersionInUse
from shared.keys import Keys
from shared.manifest import Manifest
from shared.records import LeaseLost
from shared.registry_copy import Restored, stored_models, stored_state, stored_versions, write_copy
from shared.storage import Storage, artifact_key, version_prefix

__all__ = ["ANY", "NAME", "PRODUCTION", "AliasState", "Any_", "Manifest", "Model", "Move", "Registry", "Resolved"]

SCRIPTS: Final = ("reserve", "register", "delete_version", "saved", "restore")
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Registry(Catalogue):
    """The catalogue, and how it changes."""

    def __init__(self, connections: Connections, keys: Keys, storage: Storage) -> None:
        super().__init__(connections, keys, storage)
        self._scripts = loaded(SCRIPTS)

    def reserve(self, name: str, token: str) -> int:
        """The number of a version that is to be made; the same token, such as a job's id, has the same number.

        Raises:
            StoreUnavailable, StoreFull, StorageFailed
        """
        if self._field(name, "last") is None:
            # Redis may have been emptied: what is in storage must neither be numbered nor copied over.
            self._restore(name, stored_models(self._storage, name).get(name, frozenset()))
        return int(self._run("reserve", name, token))

    def add(
        self,
        manifest: Manifest,
        artifact: bytes | memoryview,
        *,
        move: Move | None = None,
        fence: str | None = None,
        extra: Mapping[str, bytes] = NOTHING,
    ) -> Manifest:
        """Register a version, and move an alias to it in the same step.

        Files come first, so that a version that can be seen is complete. Until then nothing is visible, and a version
        that is registered already stays as it is: work that is done again changes nothing.

        Args:
            manifest: of the version, whose number was reserved.
            artifact: its bytes.
            move: of an alias to it.
            fence: of the unit that makes it; its job can be cancelled no more once the version is registered.
            extra: other files of the version, by name.

        Returns:
            The manifest that is registered.

        Raises:
            InvalidRequest: no alias can be called so.
            AliasConflict: the alias does not point to the version that was expected.
            LeaseLost: another attempt has the unit by now, or its job was cancelled.
            ModelNotFound: the version was deleted already.
            StorageFailed, StorageFull, StoreUnavailable, StoreFull
        """
        if move is not None and move.version != manifest.version:
            raise ValueError(f"a move to {move.version} came with version {manifest.version}")
        name, version = manifest.model, manifest.version
        for file, data in {**extra, manifest.artifact: artifact}.items():
            self._storage.put(artifact_key(name, version, file), data)
        raw = orjson.dumps(manifest.to_dict(), option=orjson.OPT_INDENT_2)
        kept, _ = self._register(name, version, raw, move, fence=fence)
        self._try_copy(name)
        return Manifest.from_json(kept)

    def move(self, name: str, move: Move, *, revision: int | None = None) -> AliasState:
        """Point an alias at a version that is there; one that points there already stays as it is.

        Args:
            name: the model.
            move: the wish.
            revision: that the alias must have; 0 if it must not exist.

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

    def delete(self, name: str, version: int) -> None:
        """Remove a version that nothing needs; its number is never used again.

        Raises:
            VersionInUse: an alias points to it, or an unfinished job needs it.
            ModelNotFound, StoreUnavailable
        """
        match self._run("delete_version", name, version):
            case [b"unknown"]:
                raise self._not_found(name, str(version))
            case [b"alias", *aliases]:
                named = ", ".join(sorted(alias.decode() for alias in aliases))
                raise VersionInUse(f"{name}@{version} is in use: {named} points to it; move that first.")
            case [b"jobs", waiting, running, *staged]:
                raise VersionInUse(
                    f"{name}@{version} is in use by unfinished jobs: {waiting} wait and {running} micro-batches run"
                    f"{''.join(f', job {job_id.decode()}' for job_id in staged[:3])}; cancel them, or wait."
                )
        self._manifests.pop((name, version), None)
        with contextlib.suppress(StorageFailed):  # the janitor tries again
            self.remove(f"{name}@{version}")
        self._try_copy(name)

    # The copy in storage

    def copy(self, name: str) -> None:
        """Write what Redis holds of a model to storage, until that is as new as the model.

        Raises:
            StorageFailed, StorageFull, StoreUnavailable
        """
        saved = 0
        while not saved:
            with reached():
                pipeline = self._connections.client.pipeline(transaction=True)
                pipeline.hgetall(self._keys.model(name))
                pipeline.lrange(self._keys.history(name), 0, -1)
                record, history = pipeline.execute()
            if b"last" not in record:
                return  # Redis was emptied, and the copy is all that there is
            write_copy(self._storage, name, record, history, lambda version: self._raw(name, version))
            saved = self._run("saved", name, record.get(b"changes", b"0"))

    def unsaved(self) -> list[str]:
        """Models whose copy may be older than they are.

        Raises:
            StoreUnavailable
        """
        return self._members(self._keys.unsaved)

    def removed(self) -> list[str]:
        """Versions that were deleted and whose files may still be there, as `name@version`.

        Raises:
            StoreUnavailable
        """
        return self._members(self._keys.removed)

    def remove(self, reference: str) -> None:
        """Remove the files of a version that was deleted.

        Raises:
            StorageFailed, StoreUnavailable
        """
        name, _, version = reference.partition("@")
        self._storage.delete(version_prefix(name, int(version)))
        with reached():
            self._connections.client.srem(self._keys.removed, reference)

    def rebuild(self) -> list[Restored]:
        """Add what storage holds and Redis does not; the models to which something was added, or with damaged files.

        Raises:
            StorageFailed, StoreUnavailable, StoreFull
        """
        found = [self._restore(name, keys) for name, keys in stored_models(self._storage).items()]
        return [restored for restored in found if restored.versions or restored.aliases or restored.damaged]

    def _restore(self, name: str, keys: frozenset[str]) -> Restored:
        """Add what storage holds of one model, with files under these keys, and Redis does not."""
        if not keys:
            return Restored(model=name)
        manifests, damaged = stored_versions(self._storage, name, keys)
        state, more = stored_state(self._storage, name, keys)
        added = [part for version in sorted(manifests) for part in (version, manifests[version])]
        versions, aliases = self._run("restore", name, orjson.dumps(state), *added)
        self._try_copy(name)
        return Restored(
            model=name,
            versions=tuple(versions),
            aliases=tuple(sorted(alias.decode() for alias in aliases)),
            damaged=(*damaged, *more),
        )

    def _register(
        self,
        name: str,
        version: int,
        raw: bytes,
        move: Move | None,
        *,
        fence: str | None = None,
        revision: int | None = None,
    ) -> tuple[bytes, AliasState]:
        """Run register.lua: the manifest that is registered, and where the alias points."""
        if move is not None:
            check_alias(move.alias)
        alias, expected = ("", None) if move is None else (move.alias, move.expected)
        reply = self._run(
            "register", name, version, raw, fence or "", alias,
            "*" if expected is ANY else "" if expected is None else expected,
            "" if revision is None else revision, b"" if move is None else move.entry(), MOST_MOVES,
        )  # fmt: skip
        match reply:
            case [b"done", kept, *fields]:
                state = load_state(alias, [field or None for field in fields])
                return kept, state or AliasState(alias=alias, version=version, revision=0, moved_at=None)
            case [b"conflict", points_to, at]:
                where = f"points to {points_to.decode()}" if points_to else "does not exist"
                raise AliasConflict(
                    f"{alias} of {name} was moved meanwhile: it {where} now. Read it again, and decide anew.",
                    version=int(points_to) if points_to else None,
                    revision=int(at),
                )
            case [b"lost"]:
                raise LeaseLost
            case _:
                raise self._not_found(name, str(version))

    def _try_copy(self, name: str) -> None:
        """Have the copy follow; where that fails now the model stays among the unsaved, and the janitor does it."""
        with contextlib.suppress(StorageFailed, StoreUnavailable, StoreFull):
            self.copy(name)

    def _run(self, script: str, *arguments: str | bytes | int) -> Any:
        return self._connections.script(self._scripts[script], self._keys.base, *arguments)
