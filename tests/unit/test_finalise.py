"""The parts of a job are read in their order, block by block, and no further once somebody else joins them."""

import random
from pathlib import Path
from typing import Final

import pytest

from shared.errors import FileMissing
from shared.inputs import Inputs
from shared.job import Spec
from shared.queue import BATCH
from shared.records import BatchUnit
from shared.settings import Settings
from shared.storage import Storage, part_key
from worker import finalise
from worker.finalise import Finaliser
from worker.predict import Stopped

BLOCK_BYTES: Final = 1_000
SIZES: Final = (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 0, 2 * BLOCK_BYTES + 5)
JOB: Final = "01a219cb-5970-7a73-9416-705b08a22ab8"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A folder with the parts, which are read in small blocks."""
    monkeypatch.setattr(finalise, "BLOCK_BYTES", BLOCK_BYTES)
    storage = Storage((tmp_path / "files").as_uri())
    for first, data in enumerate(contents()):
        storage.put(part_key(JOB, first, "7", "result"), data)
    return storage


@pytest.fixture
def finaliser(storage: Storage, tmp_path: Path) -> Finaliser:
    """What joins them."""
    settings = Settings(data_dir=tmp_path)
    return Finaliser(storage, Inputs(settings, storage), settings)


def contents() -> list[bytes]:
    """What is in each part."""
    return [random.Random(size).randbytes(size) for size in SIZES]


def unit(sizes: tuple[int, ...] = SIZES) -> BatchUnit:
    """The final unit of a job with parts of these sizes."""
    parts = tuple((first, {"fence": "7", "result_bytes": size}) for first, size in enumerate(sizes))
    spec = Spec(requested="m@1", model="m", version=1, method="predict")
    return BatchUnit(
        fence="8", job_id=JOB, queue=BATCH, kind="final", ring=False, attempt=1, spec=spec, layout=None, position={},
        stop="", outcome={}, rows=0, counted=True, parts=parts,
    )  # fmt: skip


def test_the_blocks_are_all_parts_in_order(finaliser: Finaliser) -> None:
    blocks = [bytes(block) for block in finaliser._blocks(unit(), "result", lambda: False)]

    assert b"".join(blocks) == b"".join(contents())
    assert max(map(len, blocks)) == BLOCK_BYTES


def test_parts_without_bytes_have_no_blocks(finaliser: Finaliser) -> None:
    assert list(finaliser._blocks(unit((0, 0)), "result", lambda: False)) == []


def test_who_is_stopped_reads_no_further(finaliser: Finaliser) -> None:
    answers = iter([False, False, True])
    blocks = finaliser._blocks(unit(), "result", lambda: next(answers))

    assert [len(next(blocks)) for _ in range(2)] == [1, BLOCK_BYTES]
    with pytest.raises(Stopped):
        next(blocks)


def test_a_part_that_is_gone_is_missed(finaliser: Finaliser, storage: Storage) -> None:
    storage.delete(part_key(JOB, 3, "7", "result"))

    with pytest.raises(FileMissing):
        list(finaliser._blocks(unit(), "result", lambda: False))
