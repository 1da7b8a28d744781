"""The registry's copy in storage: `aliases.json` of a model and the manifests beside the artifacts."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.errors import FileMissing
from shared.manifest import Manifest
from shared.storage import Storage, aliases_key, artifact_key, manifest_key


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
    """Write a model's copy, and the manifests that miss in storage.

    Args:
        storage: where to.
        name: the model.
        record: its fields in Redis.
        history: its moves, newest first.
        manifest: gives that of a version as JSON; None if it was deleted meanwhile.

    Raises:
        StorageFailed, StorageFull, and whatever `manifest` raises
    """
    before = _read(storage, aliases_key(name))
    versions = sorted(map(int, numbered(record, "v")))
    for version in sorted({*versions} - {*before.get("versions", ())}):
        if not storage.exists(manifest_key(name, version)) and (raw := manifest(version)) is not None:
            storage.put(manifest_key(name, version), raw)
    revisions, moved = numbered(record, "revision"), numbered(record, "moved")
    now = {
        "model": name,
        "last": int(record.get(b"last", 0)),
        "aliases": {
            alias: {"version": version, "revision": revisions.get(alias, 0), "moved": moved.get(alias)}
            for alias, version in sorted(numbered(record, "alias").items())
        },
        "versions": versions,
        "deleted": sorted(map(int, numbered(record, "gone"))),
        "reserved": numbered(record, "job"),
        "history": [orjson.Fragment(entry) for entry in history],
    }
    # A newer release of the service may keep more there.
    storage.put(aliases_key(name), orjson.dumps(before | now, option=orjson.OPT_INDENT_2))


def _read(storage: Storage, key: str) -> dict[str, Any]:
    """A JSON object in storage; empty if it is missing or damaged."""
    with contextlib.suppress(FileMissing, orjson.JSONDecodeError):
        found = orjson.loads(storage.get(key))
        return found if isinstance(found, dict) else {}
    return {}


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


def stored_state(storage: Storage, name: str, keys: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """What `restore.lua` takes of a model's copy, and a sentence if it is damaged.

    Raises:
        StorageFailed
    """
    nothing: dict[str, Any] = {"last": "0", "aliases": {}, "deleted": [], "reserved": {}, "history": []}
    if aliases_key(name) not in keys:
        return nothing, []
    try:
        copy = orjson.loads(storage.get(aliases_key(name)))
        state = {
            "last": str(int(copy["last"])),
            "aliases": {
                alias: [str(int(about["version"])), str(int(about["revision"])), str(about["moved"] or "")]
                for alias, about in copy["aliases"].items()
            },
            "deleted": [str(int(number)) for number in copy["deleted"]],
            "reserved": {token: str(int(number)) for token, number in copy["reserved"].items()},
            "history": [orjson.dumps(entry).decode() for entry in copy["history"]],
        }
    except (ValueError, KeyError, TypeError, AttributeError, FileMissing) as error:
        return nothing, [f"{aliases_key(name)} is damaged, so its aliases are not known: {type(error).__name__}"]
    return state, []
