"""The registry's copy in storage: `aliases.json` of a model and the manifests beside the artifacts."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shared.errors import FileMissing
from shared.manifest import Manifest
from shared.owner import OWNER
from shared.storage import Storage, aliases_key, artifact_key, manifest_key

NO_COPY: Final = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a rebuild added to a model, and what it could not use."""

    model: str
    versions: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()  # sentences, each with the file that it is about


def numbered(record: Mapping[bytes, bytes], kind: str) -> dict[str, int]:
    """The fields of a model of one kind, such as `alias` or `v`, with what stands behind the colon."""
    prefix = f"{kind}:".encode()
    return {
        field.removeprefix(prefix).decode(): int(value) for field, value in record.items() if field.startswith(prefix)
    }


def write_copy(
    storage: Storage,
    name: str,
    record: Mapping[bytes, bytes],
    history: Sequence[bytes],
    manifest: Callable[[int], bytes | None],
) -> None:
    """Write a model's copy, and the manifests that miss in storage or are others; a damaged copy is kept aside.

    Args:
        storage: where to.
        name: the model.
        record: its fields in Redis.
        history: the moves of its aliases, of each newest first.
        manifest: gives that of a version as JSON; None if it was deleted meanwhile.

    Raises:
        StorageFailed, StorageFull, and whatever `manifest` raises
    """
    before = _before(storage, name)
    registered = numbered(record, "v")
    for version in sorted(map(int, registered)):
        if before.get("registered", {}).get(str(version)) != registered[str(version)]:
            _write_manifest(storage, name, version, manifest(version))
    revisions, moved = numbered(record, "revision"), numbered(record, "moved")
    now = {
        "model": name,
        "last": int(record.get(b"last", 0)),
        "aliases": {
            alias: {"version": version, "revision": revisions.get(alias, 0)}
            | ({"moved": moved[alias]} if alias in moved else {})
            for alias, version in sorted(numbered(record, "alias").items())
        },
        "versions": sorted(map(int, registered)),
        "registered": registered,
        "deleted": sorted(map(int, numbered(record, "gone"))),
        "reserved": numbered(record, "job"),
        "history": [orjson.Fragment(entry) for entry in history],
        "owner": record[b"owner"].decode() if b"owner" in record else None,
    }
    # A newer release of the service may keep more there.
    storage.put(aliases_key(name), orjson.dumps(before | now, option=orjson.OPT_INDENT_2))


def _before(storage: Storage, name: str) -> dict[str, Any]:
    """The copy that is there; empty if there is none, or if it is damaged, which then is kept aside."""
    key = aliases_key(name)
    raw = _found(storage, key)
    if raw is None:
        return {}
    try:
        copy: dict[str, Any] = orjson.loads(raw)
        _state(copy)
    except NO_COPY:
        storage.put(damaged_key(name), raw)  # what it says of the aliases may be known nowhere else
        return {}
    return copy


def damaged_key(name: str) -> str:
    """Where a damaged copy is kept aside."""
    return f"{aliases_key(name)}.damaged"


def _write_manifest(storage: Storage, name: str, version: int, raw: bytes | None) -> None:
    key = manifest_key(name, version)
    if raw is not None and raw != _found(storage, key):
        storage.put(key, raw)


def _found(storage: Storage, key: str) -> bytes | None:
    with contextlib.suppress(FileMissing):
        return storage.get(key)
    return None


def stored_models(storage: Storage, name: str = "") -> dict[str, frozenset[str]]:
    """Every model that has files in storage, or that one, with these files' keys.

    Raises:
        StorageFailed
    """
    found: dict[str, set[str]] = {}
    for key in storage.list(f"models/{name}".rstrip("/")):
        name, _, rest = key.removeprefix("models/").partition("/")
        if rest:
            found.setdefault(name, set()).add(key)
    return {name: frozenset(found[name]) for name in sorted(found)}


def stored_versions(storage: Storage, name: str, keys: frozenset[str]) -> tuple[dict[int, bytes], list[str]]:
    """The versions of a model that are complete in storage, and what is wrong with others.

    A folder without manifest is what a crash left of a version that never was: it is written after the commit.

    Returns:
        The manifests, as JSON by version, and sentences about those that cannot be used.

    Raises:
        StorageFailed
    """
    manifests: dict[int, bytes] = {}
    damaged = []
    for key in sorted(keys):
        folder, _, file = key.removeprefix(f"models/{name}/").partition("/")
        if file != "manifest.json" or not folder.isdecimal():
            continue
        try:
            raw = storage.get(key)
            manifest = Manifest.from_json(raw)
            if (manifest.model, manifest.version) != (name, int(folder)):
                raise ValueError(f"it is that of {manifest.model}@{manifest.version}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            damaged.append(f"{key} is no manifest of {name}@{folder}: {' '.join(str(error).split())[:200]}")
            continue
        except FileMissing:
            continue  # removed since it was listed
        if artifact_key(name, manifest.version, manifest.artifact) in keys:
            manifests[manifest.version] = raw
        else:
            damaged.append(f"{key} is there, but {manifest.artifact} beside it is not")
    return manifests, damaged


def stored_state(storage: Storage, name: str, keys: frozenset[str]) -> tuple[dict[str, Any], str]:
    """What `restore.lua` takes of a model's copy, and a sentence if that is missing or damaged.

    Raises:
        StorageFailed
    """
    key, fault = aliases_key(name), ""
    state: dict[str, Any] = {"last": "0", "aliases": {}, "deleted": [], "reserved": {}, "history": {}, "owner": ""}
    raw = _found(storage, key) if key in keys else None
    if raw is None:
        fault = f"{key} is missing"
    else:
        try:
            state = _state(orjson.loads(raw))
        except NO_COPY as error:
            fault = f"{key} is damaged ({type(error).__name__}), and kept as {damaged_key(name)}"
    # Also numbers of which nothing but files is left: none may be given twice.
    folders = (key.removeprefix(f"models/{name}/").partition("/")[0] for key in keys)
    numbers = [int(folder) for folder in folders if folder.isdecimal()]
    return state | {"last": str(max(int(state["last"]), *numbers, 0))}, fault


def _state(copy: Any) -> dict[str, Any]:
    """What `restore.lua` takes of a copy.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    history: dict[str, list[str]] = {}
    for entry in copy["history"]:
        history.setdefault(entry["alias"], []).append(orjson.dumps(entry).decode())
    return {
        "last": str(int(copy["last"])),
        "aliases": {
            alias: [str(int(about["version"])), str(int(about["revision"])), str(about.get("moved") or "")]
            for alias, about in copy["aliases"].items()
        },
        "deleted": [str(int(number)) for number in copy["deleted"]],
        "reserved": {token: str(int(number)) for token, number in copy["reserved"].items()},
        "history": history,
        "owner": _owner(copy.get("owner")),
    }


def _owner(given: str | None) -> str:
    """Whose a model is, as a copy says; empty for nobody's, and of copies that are older than owners.

    Raises:
        ValueError: nobody can be called so.
    """
    if given is not None and not OWNER.fullmatch(given):
        raise ValueError(f"{given} is no owner")
    return given or ""
