"""The manifest of a version: everything about it but its bytes. It never changes once it is registered."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from shared.schema import SCHEMA, current
from shared.signature import Signature


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything about a version but its bytes."""

    model: str
    version: int
    format: str  # skops, joblib or onnx
    sha256: str
    size_bytes: int
    signature: Signature
    estimator: str  # dotted class name
    libraries: dict[str, str]  # name -> version at registration
    created_at: str
    description: str = ""
    artifact: str = "artifact"  # the file's name in the version's folder
    parent: int | None = None  # the version that was retrained
    source_job: str | None = None  # the job that made it
    created_by: str = ""
    data: dict[str, Any] = field(default_factory=dict)  # what it was trained on: sha256, rows, held-out rows, input
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)  # on the held-out rows
    comparison: dict[str, Any] = field(default_factory=dict)  # with the champion: the gate's outcome, with its numbers
    profile: dict[str, Any] = field(default_factory=dict)  # of the training data, feature by feature
    accelerated: dict[str, Any] = field(default_factory=dict)  # whether a faster form is used, and why
    code: str = ""  # the service's own version
    memory_bytes: int = 0  # what the artifact unpacks to; 0 where that is not known
    stored_bytes: int = 0  # of all files of the version but this one; 0 where an older release has made it
    warnings: tuple[str, ...] = ()  # what was warned of when it was trained, loaded and tried
    schema: int = SCHEMA  # that this was written in

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "signature"} | {
            "signature": self.signature.to_dict()
        }

    @classmethod
    def from_json(cls, raw: bytes) -> "Manifest":
        """From what `to_dict` gave, also long ago: a field that is missing has its default, an unknown one is left out.

        Raises:
            NewerSchema
            ValueError, KeyError, TypeError: it is no manifest.
        """
        fields = current("manifest", orjson.loads(raw))
        known = {name: fields[name] for name in cls.__slots__ if name in fields}
        signature, warnings = Signature.from_dict(fields["signature"]), tuple(fields.get("warnings", ()))
        return cls(**(known | {"signature": signature, "warnings": warnings}))


def timestamp() -> str:
    """The time now, as manifests have it: RFC 3339, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
