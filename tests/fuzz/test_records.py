"""Records that are kept as bytes come back as they went in, whatever words they hold."""

from dataclasses import asdict
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import BatchOptions, Input, Layout, Slice
from shared.dialect import Dialect
from shared.job import Spec
from shared.manifest import Manifest
from shared.owner import DEFAULT_OWNER
from shared.records import dump_slice, dump_spec, load_slice, load_spec
from shared.schedule import DriftPolicy, Schedule
from shared.signature import Feature, Signature
from shared.training import Gate, Recipe, RegisterOptions, TrainOptions
from tests.fuzz.profile import examples

# Words that mean something to somebody on the way, beside any others.
words = st.sampled_from([DEFAULT_OWNER, "", "0", "null", "None", "False", "all", "production", "-"]) | st.text(
    max_size=8
)
some = words.filter(bool)
values = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words
)
objects = st.dictionaries(words, values | st.lists(values, max_size=3), max_size=3)
counts = st.integers(0, 2**53)
fractions = st.floats(0, 1)
dialects = st.builds(Dialect, delimiter=words, quote=words, header=st.booleans(), encoding=words)
formats = st.none() | st.sampled_from(["csv", "ndjson", "parquet"])
inputs = st.builds(
    Input, key=st.none() | words, uri=st.none() | words, file_id=st.none() | words, name=words,
    size_bytes=st.none() | counts, sha256=st.none() | words, format=formats, dialect=dialects,
)  # fmt: skip
batches = st.builds(
    BatchOptions, input=inputs, key_column=st.none() | words, include=st.lists(words, max_size=3).map(tuple),
    include_all=st.booleans(), output_format=formats, output_compression=st.sampled_from(["none", "gzip", "zstd"]),
    max_failed_rows=st.none() | counts, max_failed_fraction=st.none() | fractions, keep_failed_rows=st.booleans(),
    retry_only=st.sampled_from([None, "failed", "skipped"]),
)  # fmt: skip
recipes = st.builds(
    Recipe, base=st.none() | words, params=st.none() | objects,
    param_grid=st.none() | objects | st.lists(objects, max_size=2), distributions=st.none() | objects,
    folds=st.integers(2, 20), budget=st.none() | counts, seed=counts,
)  # fmt: skip
gates = st.builds(
    Gate, metric=st.none() | words, min_improvement=fractions, max_regression=fractions, threshold=st.none() | fractions
)
trainings = st.builds(
    TrainOptions, input=inputs, target=words, sample_weight=st.none() | words, group=st.none() | words,
    time=st.none() | words, held_out=fractions, combine=st.sampled_from(["replace", "append"]), recipe=recipes,
    gate=gates, promote=st.sampled_from(["auto", "manual", "never"]), max_failed_rows=st.none() | counts,
)  # fmt: skip
registrations = st.builds(
    RegisterOptions, format=words, key=words, sample=st.none() | inputs, alias=st.none() | words,
    accelerate=st.sampled_from(["auto", "onnx", "off"]), description=words,
)  # fmt: skip
work: Any = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"batch": batches}),
    st.fixed_dictionaries({"train": trainings}),
    st.fixed_dictionaries({"register": registrations}),
)
specs = st.builds(
    lambda work, **fields: Spec(**fields, **work), work, requested=some, model=some, method=some,
    owner=st.just(DEFAULT_OWNER) | some, version=counts, sha256=words, top_k=st.none() | st.integers(1, 1000),
    priority=st.sampled_from(["high", "normal", "low"]), request_id=words, traceparent=st.none() | some,
    retry_of=st.none() | some,
    retry_rows=st.none() | st.lists(st.integers(1, 2**53), min_size=1, max_size=3).map(tuple),
    metadata=objects, webhook=st.none() | st.fixed_dictionaries({"url": some}),
)  # fmt: skip
features = st.builds(
    Feature, name=words, type=st.sampled_from(["number", "integer", "string", "boolean"]), nullable=st.booleans()
)
signatures = st.builds(
    Signature, container=st.sampled_from(["matrix", "table", "dataframe", "text"]),
    features=st.lists(features, max_size=3).map(tuple), methods=st.lists(words, max_size=2).map(tuple),
    classes=st.none() | st.lists(values, max_size=3).map(tuple), example=st.lists(values, max_size=3).map(tuple),
)  # fmt: skip


@given(specs)
@examples(300)
def test_a_spec_comes_back_as_it_went_in(spec: Spec) -> None:
    assert load_spec(dump_spec(spec)) == spec


@given(
    st.builds(
        Slice,
        start=counts,
        stop=counts,
        rows=counts,
        first_row=counts,
        group=counts,
        fault=st.sampled_from([None, "unclosed_quote", "row_too_long"]),
    )
)
@examples(100)
def test_a_slice_comes_back_as_it_went_in(piece: Slice) -> None:
    assert load_slice(dump_slice(piece).encode()) == piece


@given(
    st.builds(
        Layout,
        format=st.sampled_from(["csv", "ndjson", "parquet"]),
        names=st.lists(words, max_size=4).map(tuple),
        key=st.none() | words,
        include=st.lists(words, max_size=3).map(tuple),
        dialect=dialects,
        tag=st.none() | words,
        unpacked=st.booleans(),
    )
)
@examples(100)
def test_a_layout_comes_back_as_it_went_in(layout: Layout) -> None:
    assert Layout.from_dict(orjson.loads(orjson.dumps(layout.to_dict()))) == layout


@given(
    st.builds(
        Schedule,
        cron=st.none() | words,
        time_zone=words,
        when_drifted=st.none() | st.builds(DriftPolicy, windows=counts, drifted=counts),
        enabled=st.booleans(),
        owner=words,
        train=objects,
    )
)
@examples(100)
def test_a_schedule_comes_back_as_it_went_in(schedule: Schedule) -> None:
    assert Schedule.from_dict(orjson.loads(orjson.dumps(asdict(schedule)))) == schedule


@given(
    st.builds(
        Manifest,
        model=some,
        version=counts,
        format=words,
        sha256=words,
        size_bytes=counts,
        signature=signatures,
        estimator=words,
        libraries=st.dictionaries(words, words, max_size=2),
        created_at=words,
        parent=st.none() | counts,
        data=objects,
        recipe=objects,
        warnings=st.lists(words, max_size=2).map(tuple),
    )
)
@examples(150)
def test_a_manifest_comes_back_as_it_went_in(manifest: Manifest) -> None:
    assert Manifest.from_json(orjson.dumps(manifest.to_dict())) == manifest
