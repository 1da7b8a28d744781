"""The schema of stored records, so that processes of two versions of the service can work side by side.

Every record that a process of another version could take for something else has a `schema`: the spec of a job (its
first field, where the scripts find it), parts, manifests of versions, schedules, uploaded files and API keys. One
without it is of schema 1. docs/decisions/0027-rolling-upgrade.md says why others need none. The rules:

- A reader leaves out fields that it does not know. So a field that an older reader may ignore is added without a new
  number.
- What an older reader would get wrong needs a new number: raise SCHEMA by one, and give UPGRADES a function for each
  kind of record that looks different now.
- A record of a newer schema is left alone. Workers put such a job aside for others, uncounted; the API answers 503
  `newer_schema` about it, and to whoever comes with such a key.
- Whatever is written about a job (parts, outcome, version) is written in the schema of its spec, which is that of the
  API process that accepted it: it can be read wherever the job could be. So code that can read a schema can write it
  too, for as long as jobs of it may be there.
- Scripts: each process sends its own, and old and new ones run side by side on the same keys. A field of a hash, a key
  or a member keeps its meaning; others are added, and a script must do without those that only a newer version writes.
  What ARGV and the reply mean is between a script and the process that sends it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from shared.errors import NewerSchema

SCHEMA: Final = 1

Kind = Literal["spec", "part", "manifest", "schedule", "file", "key"]
Record = dict[str, Any]
# By kind and schema: the same record in the next schema. A kind that did not change has none.
UPGRADES: Final[Mapping[tuple[Kind, int], Callable[[Record], Record]]] = {}


def current(kind: Kind, raw: Mapping[str, Any]) -> Record:
    """A stored record as this code knows it; its `schema` remains the one that it was written in.

    Raises:
        NewerSchema
    """
    written = raw.get("schema", 1)
    if written > SCHEMA:
        raise NewerSchema(
            f"This {kind} was written by a newer version of the service, in schema {written}; here those up to "
            f"{SCHEMA} are known. A process of that version can read it."
        )
    record = dict(raw)
    for schema in range(written, SCHEMA):
        upgrade = UPGRADES.get((kind, schema))
        record = upgrade(record) if upgrade else record
    return record | {"schema": written}


def known(cls: type, raw: Mapping[str, Any]) -> Record:
    """The fields of a record that a dataclass has."""
    names = cls.__dataclass_fields__  # type: ignore[attr-defined]  # of a dataclass
    return {name: value for name, value in raw.items() if name in names}
