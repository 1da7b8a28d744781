"""Versions for tests of the registry: manifests of artifacts that nobody loads."""

import hashlib
from typing import Any

from shared.manifest import Manifest
from shared.registry import PRODUCTION, Any_, Move, Registry
from shared.signature import Feature, Signature
from shared.storage import artifact_name

SIGNATURE = Signature(container="matrix", features=(Feature(name="x", type="number"),), methods=("predict",))


def manifest_of(version: int, artifact: bytes = b"bytes", *, model: str = "home", **more: Any) -> Manifest:
    """A version's manifest."""
    sha256 = hashlib.sha256(artifact).hexdigest()
    fields: dict[str, Any] = {
        "format": "skops",
        "signature": SIGNATURE,
        "estimator": "sklearn.linear_model.LinearRegression",
        "libraries": {},
        "created_at": "2026-01-31T12:00:00.000Z",
        "artifact": artifact_name(sha256),
    }
    return Manifest(model=model, version=version, sha256=sha256, size_bytes=len(artifact), **(fields | more))


def move_to(version: int, expected: int | Any_ | None, *, alias: str = PRODUCTION, **more: Any) -> Move:
    """A move of an alias."""
    return Move(alias=alias, version=version, expected=expected, **({"who": "ann", "why": "better"} | more))


def add_versions(registry: Registry, count: int, *, model: str = "home") -> None:
    """Versions 1 to count, with production moved along."""
    for version in range(1, count + 1):
        registry.reserve(model, f"job-{version}")
        moved = move_to(version, version - 1 or None)
        registry.add(manifest_of(version, b"artifact %d" % version, model=model), b"artifact %d" % version, move=moved)
