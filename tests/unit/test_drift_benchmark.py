"""The benchmark of drift measures files that are scored and compared with the training data."""

import pytest

from benchmarks.drift import FORMATS, measure
from shared.batch import Format


@pytest.mark.parametrize("kind", FORMATS)
def test_each_round_is_measured_with_and_without_a_profile(kind: Format) -> None:
    found = measure(kind, size_bytes=1, rounds=2)  # raises where rows are not compared

    assert found.rows > 0
    assert (len(found.without), len(found.with_profile), len(found.shares)) == (2, 2, 2)
    assert found.step > 0
