"""The files that the README has scored, and that the documents train on."""

import csv
import io

from examples.rows import BAD, lines


def made(n_rows: int, n_bad: int) -> bytes:
    return b"".join(lines(n_rows, n_bad))


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert made(50_010, 3) == made(50_010, 3)


def test_a_shorter_file_is_the_beginning_of_a_longer_one() -> None:
    assert made(50_010, 0).startswith(made(40, 0))


def test_exactly_the_bad_rows_differ_from_good_ones() -> None:
    good, bad = (list(csv.reader(io.StringIO(made(1000, n_bad).decode()))) for n_bad in (0, len(BAD)))

    differing = [number for number, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other]

    # A tenth of the file is before the first of five, as the header is line 0.
    assert differing == [101, 301, 501, 701, 901]
    assert len({len(row) for row in bad}) == 2


def test_a_labelled_file_is_the_same_with_what_was_used() -> None:
    plain, labelled = (
        list(csv.DictReader(io.StringIO(b"".join(lines(1000, 0, labelled=told)).decode()))) for told in (False, True)
    )

    used = [float(row.pop("kwh")) for row in labelled]

    assert labelled == plain
    assert min(used) >= 0
    assert 0.5 < sum(used) / len(used) < 2
