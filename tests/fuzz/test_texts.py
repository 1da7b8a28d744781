"""Short texts from outside, of any characters: addresses, cron lines, CSV headers, dialects, query strings, models."""

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from api.errors import RequestFault
from api.jobs import list_filter
from api.media import format_by_name, header_line, is_plain_csv
from api.options import FILE_QUERY, query_options
from api.wire import BatchRequest, JobRequest, loads, parse
from shared.batch import Input
from shared.cron import Cron
from shared.dialect import Dialect, check_columns, header_names
from shared.errors import InvalidRequest
from shared.inputs import Inputs
from shared.job import Status
from shared.place import Place
from shared.requests import TrainRequest, base_name
from shared.settings import Settings
from shared.storage import Storage
from tests.fuzz.profile import examples
from tests.fuzz.reading import SIGNATURE

PATHS: Final = (
    *("/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%", "%zz", "%00", "%ff", "a", "b.csv", "#1", "~", "\\", " ", "é"),
    *("\n", "\x00", "allowed", "allowed/x", "?x", "#", "@", ":"),
)
paths = st.lists(st.sampled_from(PATHS) | st.text(max_size=3), max_size=8).map("".join)
schemes = st.sampled_from(
    ["file://", "file:///", "file://localhost/", "s3://", "s3://bucket/", "http://", "", "FILE:///"]
)
CRON_WORDS: Final = (
    "*",
    "*/2",
    "0",
    "7",
    "59",
    "60",
    "1-5",
    "5-1",
    "1,2",
    "L",
    "LW",
    "MON",
    "JAN-DEC",
    "MON#2",
    "?",
    "/",
    "",
)
DIALECTS: Final = st.builds(
    Dialect,
    delimiter=st.text(max_size=2),
    quote=st.text(max_size=2),
    header=st.booleans(),
    encoding=st.sampled_from(["utf-8", "latin-1", "punycode", "rot13", "hex", "utf-7", "nonsense", ""])
    | st.text(max_size=5),
)
NOON: Final = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@given(schemes, paths)
@examples(300)
def test_an_address_of_any_characters_is_refused_or_one_place(scheme: str, path: str) -> None:
    try:
        place = Place.parse(scheme + path)
    except ValueError as error:
        assert str(error).startswith("must ") or isinstance(error, UnicodeError)
    else:
        assert ".." not in place.path.split("/")
        assert Place.parse(place.url) == place


@given(schemes, paths)
@examples(200)
def test_no_address_leads_out_of_what_is_allowed(tmp_path: Path, scheme: str, path: str) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir(exist_ok=True)
    (allowed / "x").write_bytes(b"inside")
    (tmp_path / "b.csv").write_bytes(b"outside")
    inputs = Inputs(Settings(data_dir=tmp_path, input_prefixes=allowed.as_uri()), Storage(tmp_path.as_uri()))

    for uri in (
        scheme + path,
        f"{allowed.as_uri()}/{path}",
        f"{allowed.as_uri()}{path}",
        f"{tmp_path.as_uri()}/{path}",
    ):
        try:
            storage, key = inputs.open(Input(uri=uri))
        except InvalidRequest as error:
            assert error.errors[0]["code"] == "uri_not_allowed"
        else:
            assert Path("/", key).resolve().is_relative_to(allowed.resolve())
            assert storage is not None


@given(
    st.lists(st.sampled_from(CRON_WORDS) | st.text("0123456789*/-,LW#?", max_size=6), max_size=7),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]) | st.text(max_size=12),
)
@examples(200)
def test_a_cron_line_is_refused_or_due_at_strictly_increasing_times(words: list[str], zone: str) -> None:
    try:
        cron = Cron(" ".join(words), zone)
    except InvalidRequest as error:
        assert error.errors[0]["code"] in ("bad_cron", "unknown_time_zone")
        return

    times = list(islice(cron.times(NOON), 4))

    assert times
    assert all(earlier < later for earlier, later in pairwise([NOON, *times]))
    assert times[0] == cron.next_after(NOON)
    newest = cron.newest(times[0], times[-1] + timedelta(seconds=1))
    assert times[-1] <= newest <= times[-1] + timedelta(seconds=1)


@given(DIALECTS)
@examples(200)
def test_a_dialect_of_any_characters_is_refused_or_can_be_read(dialect: Dialect) -> None:
    try:
        dialect.check()
    except InvalidRequest as error:
        assert error.errors[0]["code"] in ("bad_delimiter", "bad_quote", "bad_encoding")
        return
    line = header_line(b'a,"b\n c",d\n1,2,3\n', dialect, whole=True)
    assert line
    assert header_names(line.decode(), dialect)
    assert dialect.is_utf8 in (True, False)


HEADERS: Final = st.lists(
    st.sampled_from([",", ";", '"', "'", "\n", "\r", "\r\n", "a", "b", " ", "é", "\x00", "\x85", "\u2028"]), max_size=20
).map("".join)


@given(HEADERS, st.integers(0, 40), st.sampled_from(["utf-8", "utf-16"]), st.booleans())
@examples(300)
def test_a_header_of_any_characters_is_names_or_a_refusal_and_no_later_byte_changes_it(
    text: str, cut: int, encoding: str, mark: bool
) -> None:
    data = (b"\xef\xbb\xbf" if mark else b"") + text.encode(encoding)
    dialect = Dialect()
    line = header_line(data[:cut], dialect, whole=False)

    assert line is None or header_line(data, dialect, whole=False) in (line, line + b"\n")
    for whole in (line, header_line(data, dialect, whole=True)):
        try:
            names = header_names((whole or b"").decode(), dialect)
            assert len(set(names)) == len(names)
            check_columns(names, SIGNATURE, key="a", include=["b"])
        except UnicodeDecodeError:
            continue
        except InvalidRequest as error:
            assert error.errors
    assert is_plain_csv(data, Input(name=text)) in (True, False)
    assert format_by_name(text) in (None, "csv", "ndjson", "parquet")


@given(
    st.lists(st.text(max_size=6).filter(lambda name: name.strip() == name != ""), min_size=1, max_size=5, unique=True)
)
@examples(150)
def test_names_that_were_written_are_the_names_that_are_read(names: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(names)
    text = written.getvalue()

    line = header_line(text.encode("utf-8", "replace"), Dialect(), whole=False)

    assert line is not None
    assert header_names(line.decode(), Dialect()) == [name.encode("utf-8", "replace").decode() for name in names]


@given(st.text(max_size=300))
@examples(150)
def test_a_file_name_leads_nowhere(name: str) -> None:
    kept = base_name(name)

    assert len(kept) <= 255
    assert "/" not in kept
    assert kept.isprintable()


LIST_VALUES: Final = st.sampled_from(
    [
        "",
        "1",
        "50",
        "200",
        "201",
        "-1",
        "\u0663",
        "1_0",
        "running",
        "train",
        "2026-01-31T12:00:00Z",
        "2026-01-31",
        "0001-01-01",
        "9999-12-31T23:59:59+23:59",
        "123-0",
        "0-0",
        "9" * 18 + "-1",
        "-",
        "m",
        "\x00",
    ]
) | st.text(max_size=10)


@given(
    st.dictionaries(st.sampled_from(["limit", "status", "kind", "model", "created_after", "cursor", "x"]), LIST_VALUES)
)
@examples(300)
def test_a_filter_of_any_characters_is_refused_or_one_that_the_store_takes(query: dict[str, str]) -> None:
    with Flask("test").test_request_context("/jobs?" + urlencode(query)):
        try:
            wanted = list_filter()
        except RequestFault as error:
            assert error.status == 400
            return
    assert 1 <= wanted["limit"] <= 200
    assert wanted["status"] in ("", *Status)
    assert wanted["created_after"] is None or int(wanted["created_after"].timestamp() * 1000) < 10**15


OPTION_VALUES: Final = st.sampled_from(
    [
        "1",
        "true",
        "maybe",
        "nan",
        "inf",
        "1e999",
        "0.5",
        "{}",
        "{",
        "[]",
        "all",
        "a,b",
        '"a,b',
        "\x00",
        "9" * 400,
        "_1",
        "\u0661",
    ]
) | st.text(max_size=8)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(FILE_QUERY)), OPTION_VALUES), max_size=6),
    st.sampled_from([BatchRequest, TrainRequest]),
)
@examples(300)
def test_options_in_a_query_are_refused_or_understood(query: list[tuple[str, str]], model: Any) -> None:
    known = {name: one for name, one in FILE_QUERY.items() if name in model.model_fields or name == "format"}
    named = [("model", "m"), *([("target", "y")] if "target" in known else [])]
    try:
        parse(model, query_options(MultiDict([*named, *query]), known))
    except RequestFault as error:
        assert error.status == 400
    except InvalidRequest as error:
        assert error.errors


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "instances", "input", "uri", "a"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([JobRequest, BatchRequest, TrainRequest]))
@examples(300)
def test_a_body_of_any_json_is_refused_with_a_pointer_or_understood(body: Any, model: Any) -> None:
    try:
        parse(model, body)
    except InvalidRequest as error:
        assert all(fault["pointer"].startswith("/") and fault["message"] for fault in error.errors)


@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"1", b":", b",", b"NaN", b"\xff", b"[" * 2000]), max_size=20
    ).map(b"".join)
)
@examples(200)
def test_bytes_are_json_or_refused(body: bytes) -> None:
    try:
        loads(body)
    except RequestFault as error:
        assert error.status == 400
        assert error.code in ("malformed_json", "json_too_deep")
