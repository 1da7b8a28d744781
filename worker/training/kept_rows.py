"""The rows that a version was trained on, which are kept beside it: added to, and compared with those of today."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.errors import FileMissing, InvalidRequest
from shared.manifest import Manifest
from shared.storage import Storage, artifact_key
from shared.training import TrainOptions
from worker.training.rows import TIME, loaded
from worker.training.split import row_codes
from worker.training.words import counted

# What tells on which side a row is, beside the row itself.
SPLIT: Final = ("held_out", "group", "time")


def split_of(options: TrainOptions, table: pa.Table, held_out: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """How rows were split, as the version keeps it.

    Args:
        options: of the training.
        table: its rows, as worker/training/rows.py reads them.
        held_out: (n_rows,)
    """
    split = {name: getattr(options, name) for name in (*SPLIT, "sample_weight")}
    oldest = None if options.time is None else float(table.column(TIME).to_numpy()[held_out].min())
    return split | {"oldest_held_out": oldest}


def otherwise(split: Mapping[str, Any], options: TrainOptions) -> str:
    """In what another split differs, such as `held_out 0.2, no group`; empty if in nothing."""
    told = []
    for name in SPLIT:
        before = split.get(name)
        if before != getattr(options, name):
            told.append(f"no {name}" if before is None else f"{name} {before}")
    return ", ".join(told)


def appended(
    storage: Storage, base: Manifest, options: TrainOptions, table: pa.Table, numbers: npt.NDArray[np.int64]
) -> tuple[pa.Table, npt.NDArray[np.int64], list[str]]:
    """The rows that a version was trained on, and then the new ones that are not among them.

    Args:
        storage: where they are kept.
        base: the version.
        options: of the training.
        table: the new rows.
        numbers: (n_rows,), where each is in the file, from 1.

    Returns:
        All rows; (n_all_rows,) where each is in the file, 0 for those from before; and warnings.

    Raises:
        InvalidRequest: nothing is kept (`nothing_to_append_to`), a column was not (`missing_column`), or the rows from
            before were split otherwise (`other_split`), so that what was trained on then might be held out now.
        StorageFailed
    """
    before = _kept(storage, base)
    name = f"{base.model}@{base.version}"
    different = otherwise(base.data["split"], options)
    if different:
        message = (
            f"The rows that {name} was trained on were split otherwise ({different}); split alike, or send all rows, "
            "with combine=replace."
        )
        raise _refused("/combine", "other_split", message)
    missing = [column for column in table.column_names if column not in before.column_names]
    if missing:
        message = (
            f"The rows that {name} was trained on were kept without the column {missing[0]}; leave it out, or send all "
            "rows, with combine=replace."
        )
        raise InvalidRequest(message, errors=[{"column": missing[0], "code": "missing_column", "message": message}])
    both = pa.concat_tables([before.select(table.column_names).cast(table.schema), table])
    codes = row_codes(both)
    new = np.ones(both.num_rows, dtype=bool)
    new[before.num_rows :] = ~np.isin(codes[before.num_rows :], codes[: before.num_rows])
    places = np.concatenate([np.zeros(before.num_rows, np.int64), numbers])
    known = int((~new).sum())
    if not known:
        return both, places, []
    verb, added = ("was", "is") if known == 1 else ("were", "are")
    warning = f"{counted(known, 'row')} {verb} there already, and {added} not added again."
    return both.filter(pa.array(new)), places[new], [warning]


def _kept(storage: Storage, base: Manifest) -> pa.Table:
    file = base.data.get("file")
    try:
        if file is None or "split" not in base.data:
            raise FileMissing
        return loaded(storage.get(artifact_key(base.model, base.version, file)))[0]
    except FileMissing as error:
        message = (
            f"The rows that {base.model}@{base.version} was trained on are not kept; "
            "send all rows, with combine=replace."
        )
        raise _refused("/combine", "nothing_to_append_to", message) from error


def seen_before(champion: Manifest, base: Manifest, options: TrainOptions, split: Mapping[str, Any]) -> list[str]:
    """Warnings of a champion that was trained here, perhaps on rows that are held out now.

    Args:
        champion: the version in production.
        base: the version that is cloned; its columns tell on which side a row is.
        options: of the training.
        split: what `split_of` said of it.
    """
    before = champion.data.get("split")
    if before is None:
        return []
    name = f"{champion.model}@{champion.version}"
    different = otherwise(before, options)
    by_row = options.group is None and options.time is None
    if not different and by_row and _columns(champion, champion.data["target"]) != _columns(base, options.target):
        different = "other columns"
    if different:
        return [
            f"The rows of the champion {name} were split otherwise ({different}): it may have been trained on rows "
            "that are held out now, and look better than it is."
        ]
    if options.time is not None and split["oldest_held_out"] < before["oldest_held_out"]:
        return [
            f"Some rows that are held out now are older than all that the champion {name} was compared on: it may have "
            "been trained on them, and look better than it is."
        ]
    return []


def _columns(version: Manifest, target: str) -> list[str]:
    return [*(feature.name for feature in version.signature.features), target]


def _refused(pointer: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])
