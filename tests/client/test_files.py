"""Files of any size, up and down, over a network that breaks."""

import gzip
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from foretell import Client, JobFailed, Progress, Status
from foretell.download import FileTarget
from foretell.errors import DownloadDamaged, InvalidRequest, InvalidRows, ResultNotReady

from tests.chaos.network import Link
from tests.system.service import Barrier

ROWS = 8000
BAD_ROWS = (7, 4000)
FILE = b"id,x1,x2,x3\n" + b"".join(
    b"a-%d,%s,0.02,0.04\n" % (row, b"?" if row in BAD_ROWS else b"0.0%d" % (row % 9)) for row in range(1, ROWS + 1)
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file with two bad rows."""
    path = tmp_path / "rows.csv"
    path.write_bytes(FILE)
    return path


def test_a_file_is_predicted_into_a_file(client: Client, rows: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    out = tmp_path / "out.parquet"

    job = client.predict_file(rows, "linear", out, key="id", progress=told.append)

    table = pq.read_table(out)
    assert job.status is Status.PARTIALLY_SUCCEEDED
    assert table.column_names == ["id", "prediction"]
    assert table.num_rows == ROWS - len(BAD_ROWS)
    assert [error["key"] for error in job.errors()] == ["a-7", "a-4000"]
    last = {progress.stage: progress for progress in told}
    assert list(last) == ["upload", "scoring", "download"]
    assert last["upload"].done == last["upload"].total
    assert (last["scoring"].done, last["scoring"].failed) == (ROWS, 2)
    assert last["download"].done == out.stat().st_size == last["download"].total
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "rows.csv"]


def test_formats_and_compressions_go_by_the_names(client: Client, tmp_path: Path) -> None:
    packed, out = tmp_path / "rows.csv.gz", tmp_path / "out.ndjson.gz"
    packed.write_bytes(gzip.compress(FILE))

    client.predict_file(packed, "linear", out, progress=False)

    assert len(gzip.decompress(out.read_bytes()).splitlines()) == ROWS - len(BAD_ROWS)


def test_a_result_goes_into_a_pipe_that_has_a_path(client: Client, rows: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()

    client.predict_file(rows, "linear", pipe, output_format="csv", progress=False)

    reader.join()
    assert len(read[0].splitlines()) == ROWS - len(BAD_ROWS) + 1
    assert pipe.is_fifo()


def test_a_result_goes_to_where_a_link_leads(client: Client, rows: Path, tmp_path: Path) -> None:
    place, link = tmp_path / "kept.csv", tmp_path / "link.csv"
    link.symlink_to(place)

    client.predict_file(rows, "linear", link, progress=False)

    assert link.is_symlink()
    assert len(place.read_bytes().splitlines()) == ROWS - len(BAD_ROWS) + 1


def test_what_somebody_else_fetches_is_not_mixed_with_it(tmp_path: Path) -> None:
    first, second = (FileTarget(tmp_path / "out.csv", "a-job") for _ in range(2))
    first.begin()
    first.write(b"1")

    with pytest.raises(OSError, match="Somebody else"):
        second.begin()

    first.complete()
    assert second.begin()[0] == 0
    second.close()
    assert (tmp_path / "out.csv").read_bytes() == b"1"


def test_a_result_can_go_into_a_stream(client: Client, rows: Path) -> None:
    out = io.BytesIO()

    client.predict_file(rows, "linear", out, progress=False)

    assert out.getvalue().startswith(b"prediction\n")


def test_a_file_is_sent_once_for_several_jobs(client: Client, rows: Path, tmp_path: Path) -> None:
    reference = client.upload(rows)

    jobs = [client.submit_file(reference, "linear", key="id").wait(30) for _ in range(2)]
    jobs[0].download(tmp_path / "a.csv")
    jobs[1].download(tmp_path / "b.csv")

    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_errors_and_manifest_are_fetched_too(client: Client, rows: Path, tmp_path: Path) -> None:
    job = client.submit_file(rows, "linear", key="id").wait(30)

    job.download(tmp_path / "errors.ndjson", "errors")
    job.download(tmp_path / "manifest.json", "manifest")

    assert len((tmp_path / "errors.ndjson").read_bytes().splitlines()) == 2
    assert job.id in (tmp_path / "manifest.json").read_text()


def test_a_file_without_a_column_of_the_model_is_refused(client: Client, tmp_path: Path) -> None:
    typo = tmp_path / "typo.csv"
    typo.write_text("id,x1,x2,x4\n" + "a,1,2,3\n" * 300_000)

    with pytest.raises(InvalidRequest, match="x3"):
        client.predict_file(typo, "linear", progress=False)


def test_a_file_that_cannot_be_scored_leaves_no_result(client: Client, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.csv", tmp_path / "out.csv"
    bad.write_text("x1,x2,x3\n?,?,?\n")

    with pytest.raises(JobFailed) as raised:
        client.predict_file(bad, "linear", out, progress=False)

    assert raised.value.code == "all_rows_failed"
    assert not out.exists()


def test_a_name_that_says_no_format_is_refused_before_anything_is_sent(client: Client, rows: Path) -> None:
    with pytest.raises(InvalidRows, match="says no format"):
        client.predict_file(rows, "linear", "out.txt")
    with pytest.raises(FileNotFoundError):
        client.predict_file("nowhere.csv", "linear")


def test_a_result_that_is_not_there_yet_is_not_fetched(client: Client, barrier: Barrier, tmp_path: Path) -> None:
    with pytest.raises(ResultNotReady):
        client.job(barrier.hold()["id"]).download(tmp_path / "out.json")

    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_is_cut_is_sent_again_and_is_one_job(far_client: Client, link: Link, rows: Path) -> None:
    cuts: list[int] = []

    def cut(progress: Progress) -> None:
        if progress.stage == "upload" and len(cuts) < 2 and progress.done:
            cuts.append(progress.done)
            link.cut()

    big = rows.with_name("big.csv")
    big.write_bytes(FILE + b"".join(FILE.splitlines(keepends=True)[1:] * 20))
    before = {job.id for job in far_client.jobs(kind="batch")}

    job = far_client.submit_file(big, "linear", progress=cut).wait(60)

    assert len(cuts) == 2
    assert job.counts["total"] == 21 * ROWS
    assert {one.id for one in far_client.jobs(kind="batch")} - before == {job.id}


def test_an_answer_that_is_lost_makes_no_second_job(far_client: Client, link: Link, rows: Path) -> None:
    before = {job.id for job in far_client.jobs(kind="batch")}
    link.truncate(1)

    job = far_client.submit_file(rows, "linear")

    assert link.truncations_left == 0
    assert {one.id for one in far_client.jobs(kind="batch")} - before == {job.id}


def test_a_download_that_breaks_off_goes_on_where_it_was(far_client: Client, link: Link, rows: Path) -> None:
    job = far_client.submit_file(rows, "linear", key="id", include="all").wait(30)
    out, offsets = rows.with_name("out.csv"), list[int]()

    def cut(progress: Progress) -> None:
        offsets.append(progress.done)
        if len(offsets) in (1, 2):
            link.cut()

    job.download(out, progress=cut)

    result = job.document["result"]
    assert offsets == sorted(set(offsets))  # never from the beginning again
    assert len(offsets) > 2
    assert hashlib.sha256(out.read_bytes()).hexdigest() == result["sha256"]


def test_a_download_is_taken_up_by_the_next_program(client: Client, rows: Path) -> None:
    job = client.submit_file(rows, "linear", key="id").wait(30)
    out = rows.with_name("out.csv")
    job.download(out)
    whole = out.read_bytes()
    out.unlink()
    out.with_name(f".out.csv.{job.id}.part").write_bytes(whole[:100])
    told: list[Progress] = []

    job.download(out, progress=told.append)

    assert told[0].done > 100
    assert out.read_bytes() == whole
    assert {path.name for path in rows.parent.iterdir()} == {"rows.csv", "out.csv"}


@pytest.mark.parametrize("left", [b"nonsense", b"x" * 1_000_000], ids=["other bytes", "too many"])
def test_what_lies_there_from_before_is_not_trusted(client: Client, rows: Path, left: bytes) -> None:
    job: Any = client.submit_file(rows, "linear", key="id").wait(30)
    out = rows.with_name("out.csv")
    out.with_name(f".out.csv.{job.id}.part").write_bytes(left)

    try:
        job.download(out)
    except DownloadDamaged:
        assert not out.exists()
        job.download(out)

    assert hashlib.sha256(out.read_bytes()).hexdigest() == job.document["result"]["sha256"]
