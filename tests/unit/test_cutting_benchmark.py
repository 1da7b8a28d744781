"""The benchmark of the cutter measures files that are cut and read as they were made."""

import pytest

from benchmarks.cutting import BLOCK_ROWS, IDS, content, cuts, measure


@pytest.mark.parametrize("kind", IDS)
def test_a_file_of_the_benchmark_has_the_rows_that_were_made(kind: str) -> None:
    data = content(kind, size_bytes=1)

    assert sum(cut.slice.rows for cut in cuts(kind, data)) == BLOCK_ROWS
    assert [cut.slice.fault for cut in cuts(kind, data) if cut.slice.fault] == []
    measure(kind, data)  # raises where a slice is not read as it was cut
