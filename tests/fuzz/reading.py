"""A whole file read as workers read it: looked at, planned, cut, and every slice parsed; only Redis is not there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from shared.batch import BatchOptions, Input, Layout, Slice
from shared.batch_store import BatchStore
from shared.dialect import Dialect
from shared.inputs import Inputs
from shared.job import Spec
from shared.queue import BATCH
from shared.records import BatchUnit
from shared.registry import Registry
from shared.settings import Settings
from shared.signature import Feature, Signature
from shared.storage import Storage, input_key
from worker.plan import Planner
from worker.rows import SliceRows
from worker.slices import SliceReader

JOB = "j1"
FEATURES = (
    Feature(name="a", type="number"),
    Feature(name="b", type="integer", nullable=True),
    Feature(name="c", type="string"),
    Feature(name="d", type="boolean", nullable=True),
)
SIGNATURE = Signature(container="table", features=FEATURES, methods=("predict",))
ROW = dict[str, Any]


@dataclass
class Plans:
    """What planners say of a job, kept as Redis would."""

    layout: Layout | None = None
    slices: list[Slice] = field(default_factory=list)
    position: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False

    def plan(
        self, _: BatchUnit, worker: str, mode: str, layout: Layout, position: Mapping[str, Any],
        slices: Sequence[Slice], **__: Any,
    ) -> tuple[bool, bool, int]:  # fmt: skip
        """Note slices: the unit goes on, nobody is to be called, and nobody has begun any."""
        assert worker
        self.layout, self.position, self.done = layout, position, mode == "done"
        self.slices += slices
        return True, False, len(slices)


class Reading:
    """Reads files in a folder of its own."""

    def __init__(self, folder: Path, signature: Signature = SIGNATURE) -> None:
        self._folder = folder
        self._signature = signature
        self._storage = Storage(folder.as_uri())

    def rows(
        self, data: bytes, *, name: str = "", format: Any = None, dialect: Dialect | None = None,
        key: str | None = None, include_all: bool = False, **settings: int,
    ) -> list[ROW]:  # fmt: skip
        """Each row: its values and what is kept of it, or its fault.

        Raises:
            InvalidRequest: the file cannot be read.
        """
        given = Input(key=input_key(JOB), name=name, format=format, dialect=dialect or Dialect())
        given.dialect.check()  # as the API does with every job
        self._storage.put(input_key(JOB), data)
        chosen = Settings(data_dir=self._folder, max_text_length=50, **settings)
        plans = self._planned(BatchOptions(input=given, key_column=key, include_all=include_all), chosen)
        unit = _unit(BatchOptions(input=given, key_column=key), plans.layout, tuple(plans.slices))
        reader = SliceReader(self._storage, Inputs(chosen, self._storage), chosen)
        rows: list[ROW] = []
        for piece, read in reader.read(unit, self._signature, defaultdict(float)):
            assert piece.first_row == len(rows)
            assert read.count == piece.rows
            rows += _rows(read)
        return rows

    def _planned(self, batch: BatchOptions, settings: Settings) -> Plans:
        plans = Plans()
        registry = SimpleNamespace(manifest=lambda *_: SimpleNamespace(signature=self._signature))
        planner = Planner(
            cast(BatchStore, plans), self._storage, Inputs(settings, self._storage), cast(Registry, registry), settings
        )
        planner.run(_unit(batch, None, ()), lambda: False, lambda _: None)
        assert plans.done
        return plans


def _unit(batch: BatchOptions, layout: Layout | None, slices: tuple[Slice, ...]) -> BatchUnit:
    spec = Spec(requested="m", model="m", version=1, method="predict", batch=batch)
    return BatchUnit(
        fence="1", job_id=JOB, queue=BATCH, kind="chunk" if layout else "plan", ring=False, attempt=1, spec=spec,
        layout=layout, position={}, stop="", outcome={}, rows=0, counted=layout is not None, slices=slices,
    )  # fmt: skip


def _rows(read: SliceRows) -> list[ROW]:
    """The rows of a slice; each is good or has a fault, and none is both."""
    good = list(range(read.count)) if read.good is None else read.good.tolist()
    faults = {fault.position: fault for fault in read.faults}
    assert read.features.num_rows == len(good)
    assert sorted([*good, *faults]) == list(range(read.count))
    assert read.kept.num_rows == read.count or not read.kept.num_columns
    read.features.validate(full=True)
    values = dict(zip(good, read.features.to_pylist(), strict=True))
    kept = read.kept.to_pylist() if read.kept.num_columns else [{}] * read.count
    rows = []
    for position in range(read.count):
        fault = faults.get(position)
        told = {"values": values[position]} if fault is None else {"code": fault.code, "column": fault.column}
        assert fault is None or fault.message
        rows.append(told | {"kept": kept[position]})
    return rows
