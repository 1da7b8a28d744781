"""What keeps Redis and storage alike: the copy of each model, files that remain to be removed, and the rebuild."""

import contextlib
from collections.abc import Iterable
from typing import Any, Final

import orjson

from shared.aliases import PRODUCTION
from shared.catalogue import Catalogue, reached
from shared.connection import Connections
from shared.copies import Copies
from shared.errors import StorageFailed, StoreFull, StoreUnavailable
from shared.keys import Keys
from shared.registry_copy import Restored, stored_models, stored_state, stored_versions, write_copy
from shared.script import loaded
from shared.storage import Storage, version_prefix

SCRIPTS: Final = (
    *("reserve", "register", "unalias", "delete_version", "hand_over"),
    *("restore", "give_up", "recount"),
)
# Nothing takes that long between the reservation of a number and the registration, unless it has died.
RESERVED_SECONDS: Final = 86_400
MOST_GIVEN_UP: Final = 100


class Upkeep(Catalogue):
    """The catalogue, with its copy in storage."""

    def __init__(self, connections: Connections, keys: Keys, storage: Storage) -> None:
        super().__init__(connections, keys, storage)
        self._scripts = loaded(SCRIPTS)
        self._copies = Copies(connections, keys, "model")

    def copy(self, name: str) -> None:
        """Write what Redis holds of a model to storage, until that is as new as the model.

        Raises:
            StorageFailed, StorageFull, StoreUnavailable
        """
        self._copies.bring(name, lambda: self._write_copy(name))

    def _write_copy(self, name: str) -> bytes:
        """Write the copy once; returns the changes of what it was written of."""
        with reached():
            record: dict[bytes, bytes] = self._connections.client.hgetall(self._keys.model(name))
        if b"last" in record:  # otherwise Redis was emptied, and the copy is all that there is
            history = self._moves(name, record)
            write_copy(self._storage, name, record, history, lambda version: self._raw(name, version))
        return record.get(b"changes", b"0")

    def unsaved(self) -> list[str]:
        """Models whose copy may be older than they are.

        Raises:
            StoreUnavailable
        """
        return self._copies.marked()

    def removed(self) -> list[str]:
        """Versions that were deleted and whose files may still be there, as `name@version`.

        Raises:
            StoreUnavailable
        """
        return self._members(self._keys.removed)

    def give_up(self, older_than_seconds: float = RESERVED_SECONDS) -> int:
        """Give up numbers that were reserved so long ago, and whose version never came; how many.

        They are used no more, and what there is of their files counts among the removed. A number that was reserved for
        a job which is not finished stays.

        Raises:
            StoreUnavailable, StoreFull
        """
        return int(self._run("give_up", int(older_than_seconds * 1000), MOST_GIVEN_UP))

    def recount(self, owners: Iterable[str]) -> int:
        """Set right what versions count to owners, where a release that did not count them was at work; how many.

        `owners`: others than those of models, who may have had some.

        Raises:
            StoreUnavailable, StoreFull
        """
        with reached():
            client, names = self._connections.client, self._members(self._keys.models)
            whose = {name: owner.decode() for name in names if (owner := client.hget(self._keys.model(name), "owner"))}
        rest = dict.fromkeys({*owners, *whose.values()}, "")
        return sum(int(self._run("recount", owner, name)) for owner, name in rest.items()) + sum(
            int(self._run("recount", owner, name)) for name, owner in whose.items()
        )

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
        state, fault = stored_state(self._storage, name, keys)
        added = [part for version in sorted(manifests) for part in (version, manifests[version])]
        versions, aliases = self._run("restore", name, orjson.dumps(state), *added)
        if fault and versions and self._field(name, f"alias:{PRODUCTION}") is None:
            damaged.append(
                f"{fault}, so neither the aliases nor whose it is are known. Say so anew, such as: "
                f"python -m worker alias {name} {PRODUCTION} N --why ..., python -m worker owner {name} OWNER"
            )
        self._try_copy(name)
        return Restored(
            model=name,
            versions=tuple(versions),
            aliases=tuple(sorted(alias.decode() for alias in aliases)),
            damaged=tuple(damaged),
        )

    def _try_copy(self, name: str) -> None:
        """Have the copy follow; where that fails now the model stays among the unsaved, and the janitor does it."""
        with contextlib.suppress(StorageFailed, StoreUnavailable, StoreFull):
            self.copy(name)

    def _run(self, script: str, *arguments: str | bytes | int) -> Any:
        return self._connections.script(self._scripts[script], self._keys.base, *arguments)
