"""Rows against a signature: what is taken, what is refused, and what the sender is told."""

import random
import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest, TooManyInstances, UnknownMethod
from shared.signature import MOST_ERRORS, Feature, FeatureType, RowChecker, Signature

MAX_ROWS = 40
MAX_TEXT_LENGTH = 50
CODES = {
    "not_a_row",
    "wrong_number_of_values",
    "missing_column",
    "missing_value",
    "not_a_number",
    "not_finite",
    "not_an_integer",
    "not_a_boolean",
    "not_a_string",
    "text_too_long",
    "no_rows",
    "too_many_instances",
}

AGE = Feature(name="age", type="integer")
HEIGHT = Feature(name="height", type="number")
NAME = Feature(name="name", type="string")
MEMBER = Feature(name="member", type="boolean")
PERSON = (AGE, HEIGHT, NAME, MEMBER)
GOOD = [30, 1.8, "Ada", True]


def checker(*features: Feature, max_rows: int = MAX_ROWS) -> RowChecker:
    signature = Signature(container="table", features=features, methods=("predict",))
    return RowChecker(signature, max_rows, MAX_TEXT_LENGTH)


def faults(check: RowChecker, rows: list[Any], pointer: str = "/instances") -> tuple[dict[str, Any], ...]:
    """The faults that rows are refused with."""
    with pytest.raises(InvalidRequest) as caught:
        check.check(rows, pointer)
    return tuple(dict(error) for error in caught.value.errors)


def with_value(position: int, value: Any) -> list[Any]:
    return [*GOOD[:position], value, *GOOD[position + 1 :]]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        pytest.param(
            "Ada",
            {
                "row": 2,
                "pointer": "/instances/1",
                "code": "not_a_row",
                "message": "A row must be an array of 4 values or an object with the columns age, height, name, "
                "member; found the string 'Ada'.",
            },
            id="not-a-row",
        ),
        pytest.param(
            [30, 1.8],
            {
                "row": 2,
                "pointer": "/instances/1",
                "code": "wrong_number_of_values",
                "message": "The row has 2 values, but the model takes 4: age, height, name, member.",
            },
            id="too-few-values",
        ),
        pytest.param(
            [*GOOD, 1],
            {
                "row": 2,
                "pointer": "/instances/1",
                "code": "wrong_number_of_values",
                "message": "The row has 5 values, but the model takes 4: age, height, name, member.",
            },
            id="too-many-values",
        ),
        pytest.param(
            {"age": 30, "height": 1.8, "name": "Ada"},
            {
                "row": 2,
                "column": "member",
                "pointer": "/instances/1/member",
                "code": "missing_column",
                "message": "Column member is missing.",
            },
            id="column-missing",
        ),
        pytest.param(
            {"age": 30, "hieght": 1.8, "name": "Ada", "member": True},
            {
                "row": 2,
                "column": "height",
                "pointer": "/instances/1/height",
                "code": "missing_column",
                "message": "Column height is missing. Did you mean it by 'hieght'?",
            },
            id="column-misspelt",
        ),
        pytest.param(
            with_value(1, None),
            {
                "row": 2,
                "column": "height",
                "pointer": "/instances/1/1",
                "code": "missing_value",
                "message": "Column height is null, and the model takes no missing values; send a number.",
            },
            id="null-where-it-is-not-taken",
        ),
        pytest.param(
            with_value(1, "tall"),
            {
                "row": 2,
                "column": "height",
                "pointer": "/instances/1/1",
                "code": "not_a_number",
                "message": "Column height must be a number; found the string 'tall'.",
            },
            id="text-for-a-number",
        ),
        pytest.param(
            with_value(1, float("-inf")),
            {
                "row": 2,
                "column": "height",
                "pointer": "/instances/1/1",
                "code": "not_finite",
                "message": "Column height must be a finite number; found a number that is too large.",
            },
            id="infinity",
        ),
        pytest.param(
            with_value(0, 30.5),
            {
                "row": 2,
                "column": "age",
                "pointer": "/instances/1/0",
                "code": "not_an_integer",
                "message": "Column age must be a whole number; found 30.5.",
            },
            id="fraction-for-an-integer",
        ),
        pytest.param(
            with_value(3, 1),
            {
                "row": 2,
                "column": "member",
                "pointer": "/instances/1/3",
                "code": "not_a_boolean",
                "message": "Column member must be true or false; found 1.",
            },
            id="number-for-a-boolean",
        ),
        pytest.param(
            with_value(2, ["Ada"]),
            {
                "row": 2,
                "column": "name",
                "pointer": "/instances/1/2",
                "code": "not_a_string",
                "message": "Column name must be a string; found an array of 1 values.",
            },
            id="array-for-a-string",
        ),
        pytest.param(
            with_value(2, "a" * (MAX_TEXT_LENGTH + 1)),
            {
                "row": 2,
                "column": "name",
                "pointer": "/instances/1/2",
                "code": "text_too_long",
                "message": f"Column name has {MAX_TEXT_LENGTH + 1} characters; at most {MAX_TEXT_LENGTH} are allowed.",
            },
            id="text-too-long",
        ),
    ],
)
def test_a_fault_says_in_which_row_and_column_it_is_and_what_was_found(row: Any, fault: dict[str, Any]) -> None:
    check = checker(*PERSON)

    found = faults(check, [GOOD, row])

    assert found == (fault,)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        pytest.param([], "no_rows", id="none"),
        pytest.param([GOOD] * (MAX_ROWS + 1), "too_many_instances", id="one-more"),
    ],
)
def test_a_wrong_number_of_rows_is_a_fault_of_all_rows_together(rows: list[Any], code: str) -> None:
    check = checker(*PERSON)

    (fault,) = faults(check, rows)

    assert (fault["pointer"], fault["code"], "row" in fault) == ("/instances", code, False)


def test_as_many_rows_as_are_allowed_pass_and_one_more_is_an_error_of_its_own() -> None:
    check = checker(*PERSON)

    assert len(check.check([GOOD] * MAX_ROWS)) == MAX_ROWS
    with pytest.raises(TooManyInstances, match=f"{MAX_ROWS + 1} rows are more than the {MAX_ROWS}"):
        check.check([GOOD] * (MAX_ROWS + 1))


def test_records_are_put_in_the_order_of_the_features_and_further_columns_are_ignored() -> None:
    check = checker(*PERSON)

    rows = check.check([{"shoe": 44, "member": False, "name": "Bob", "age": 7, "height": 1.2}])

    assert rows == [[7, 1.2, "Bob", False]]


def test_arrays_and_records_may_be_mixed() -> None:
    check = checker(*PERSON)

    rows = check.check([GOOD, {"age": 30, "height": 1.8, "name": "Ada", "member": True}])

    assert rows == [GOOD, GOOD]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("number", 1.5, id="number"),
        pytest.param("integer", 2, id="integer"),
        pytest.param("string", "hello", id="string"),
        pytest.param("boolean", False, id="boolean"),
    ],
)
def test_with_one_feature_a_row_may_be_the_bare_value(kind: FeatureType, value: Any) -> None:
    check = checker(Feature(name="x", type=kind))

    rows = check.check([value, [value], {"x": value}])

    assert rows == [[value], [value], [value]]


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        pytest.param("number", True, "not_a_number", id="true-is-no-number"),
        pytest.param("number", False, "not_a_number", id="false-is-no-number"),
        pytest.param("integer", True, "not_an_integer", id="true-is-no-integer"),
        pytest.param("boolean", 0, "not_a_boolean", id="zero-is-no-boolean"),
        pytest.param("boolean", "true", "not_a_boolean", id="text-is-no-boolean"),
        pytest.param("number", "1", "not_a_number", id="digits-are-no-number"),
        pytest.param("string", 1, "not_a_string", id="a-number-is-no-text"),
        pytest.param("integer", 1e300, "not_an_integer", id="beyond-64-bits"),
        pytest.param("integer", 2.0**63, "not_an_integer", id="just-beyond-64-bits-with-a-point"),
        pytest.param("integer", 2**63, "out_of_range", id="just-beyond-64-bits"),
        pytest.param("integer", float("inf"), "not_an_integer", id="infinity-is-no-integer"),
        pytest.param("number", {"value": 1}, "not_a_number", id="an-object-is-no-number"),
    ],
)
def test_a_value_of_another_type_is_not_converted(kind: FeatureType, value: Any, code: str) -> None:
    check = checker(Feature(name="x", type=kind))

    (fault,) = faults(check, [[value]])

    assert fault["code"] == code


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        pytest.param(3.0, 3, id="three"),
        pytest.param(-0.0, 0, id="minus-zero"),
        pytest.param(1e15, 10**15, id="with-an-exponent"),
        pytest.param(2**63 - 1, 2**63 - 1, id="largest"),
        pytest.param(-(2**63), -(2**63), id="smallest"),
    ],
)
def test_a_whole_number_may_be_written_with_a_point(value: float, taken: int) -> None:
    check = checker(AGE)

    ((row,),) = check.check([[value]])

    assert (type(row), row) == (int, taken)


@pytest.mark.parametrize("row", [pytest.param([None], id="array"), pytest.param({"x": None}, id="record")])
@pytest.mark.parametrize("kind", ["number", "integer", "string", "boolean"])
def test_null_is_a_missing_value_where_the_model_takes_those(kind: FeatureType, row: Any) -> None:
    check = checker(Feature(name="x", type=kind, nullable=True))

    assert check.check([row]) == [[None]]


def test_a_column_that_is_not_there_is_not_a_missing_value() -> None:
    check = checker(AGE, Feature(name="height", type="number", nullable=True))

    (fault,) = faults(check, [{"age": 1}])

    assert (fault["code"], fault["column"]) == ("missing_column", "height")


def test_every_fault_of_a_row_is_told_at_once() -> None:
    check = checker(*PERSON)

    found = faults(check, [["old", "tall", 7, None]])

    assert [(fault["column"], fault["code"]) for fault in found] == [
        ("age", "not_an_integer"),
        ("height", "not_a_number"),
        ("name", "not_a_string"),
        ("member", "missing_value"),
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([["x"]] * MAX_ROWS, MOST_ERRORS, id="many-rows"),
        pytest.param([["x"]] * (MOST_ERRORS - 1), MOST_ERRORS - 1, id="one-less-than-the-most"),
    ],
)
def test_no_more_than_twenty_faults_are_told(rows: list[Any], expected: int) -> None:
    check = checker(HEIGHT)

    assert len(faults(check, rows)) == expected


def test_one_wide_row_does_not_tell_more_faults_either() -> None:
    check = checker(*(Feature(name=f"x{number}", type="number") for number in range(100)))

    assert len(faults(check, [["wrong"] * 100])) == MOST_ERRORS


@pytest.mark.parametrize(
    ("bad_rows", "ending"),
    [
        pytest.param(1, "(row 2)", id="one"),
        pytest.param(2, "(row 2, and 1 more row)", id="two"),
        pytest.param(3, "(row 2, and 2 more rows)", id="three"),
    ],
)
def test_the_summary_says_how_many_rows_are_wrong(bad_rows: int, ending: str) -> None:
    check = checker(HEIGHT)

    with pytest.raises(InvalidRequest) as caught:
        check.check([[1], *[["x"]] * bad_rows])

    assert caught.value.message.endswith(ending)


def test_a_pointer_begins_where_the_rows_are_in_the_body() -> None:
    check = checker(HEIGHT)

    (fault,) = faults(check, [{"height": "x"}], pointer="/dataframe_records")

    assert fault["pointer"] == "/dataframe_records/0/height"


def test_a_pointer_escapes_the_characters_that_rfc_6901_reserves() -> None:
    check = checker(Feature(name="m/s~2", type="number"))

    (fault,) = faults(check, [{"m/s~2": "x"}])

    assert fault["pointer"] == "/instances/0/m~1s~02"


def test_a_long_value_is_shown_shortened() -> None:
    check = checker(HEIGHT)

    (fault,) = faults(check, [["x" * 1000]])

    assert fault["message"].startswith(f"Column height must be a number; found the string '{'x' * 40}'...")
    assert len(fault["message"]) < 150


def test_a_wide_model_does_not_list_all_its_columns() -> None:
    check = checker(*(Feature(name=f"x{number}", type="number") for number in range(21)))

    (fault,) = faults(check, [[1]])

    assert fault["message"].endswith("x18, x19, ... (21 in all).")


def test_a_record_with_thousands_of_unknown_columns_is_refused_at_once() -> None:
    check = checker(*(Feature(name=f"feature_{number}", type="number") for number in range(20)))
    record = {f"feature_x{number}": 0 for number in range(5000)}
    started = time.process_time()

    found = faults(check, [record])

    assert {fault["code"] for fault in found} == {"missing_column"}
    assert time.process_time() - started < 0.5


def test_the_rows_that_were_sent_are_left_as_they_were() -> None:
    check = checker(AGE)
    sent = [[3.0], {"age": 4.0}]

    check.check(sent)

    assert orjson.dumps(sent) == b'[[3.0],{"age":4.0}]'


def test_a_signature_survives_being_stored() -> None:
    signature = Signature(
        container="matrix",
        features=(AGE, Feature(name="x", type="number", nullable=True)),
        methods=("predict", "predict_proba"),
        outputs=({"name": "prediction", "type": "string"},),
        classes=("no", "yes"),
    )

    read = Signature.from_dict(orjson.loads(orjson.dumps(signature.to_dict())))

    assert read == signature


CLASSIFIER = Signature(container="matrix", features=(AGE,), methods=("predict", "predict_proba"), classes=(0, 1))
REGRESSOR = Signature(container="matrix", features=(AGE,), methods=("predict",))
SEVERAL = Signature(container="matrix", features=(AGE,), methods=("predict", "predict_proba"))
SCALER = Signature(container="matrix", features=(AGE,), methods=("transform", "predict_proba"), classes=(0, 1))


def test_a_method_that_the_model_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(UnknownMethod, match="has no method 'transform'; it has predict, predict_proba") as caught:
        CLASSIFIER.check_method("transform", None)

    assert [(error["pointer"], error["code"]) for error in caught.value.errors] == [("/method", "unknown_method")]


@pytest.mark.parametrize(
    ("signature", "method", "reason"),
    [
        pytest.param(REGRESSOR, "predict", "needs a classifier with predict_proba", id="regressor"),
        pytest.param(SCALER, "transform", "goes with the method predict or predict_proba", id="another-method"),
        pytest.param(SEVERAL, "predict", "this one has several", id="several-outputs"),
    ],
)
def test_top_k_is_refused_where_it_has_no_meaning(signature: Signature, method: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        signature.check_method(method, 3)

    assert [(error["pointer"], error["code"]) for error in caught.value.errors] == [("/top_k", "top_k_not_applicable")]


@pytest.mark.parametrize(
    ("signature", "method", "top_k"),
    [
        pytest.param(REGRESSOR, "predict", None, id="plain"),
        pytest.param(CLASSIFIER, "predict", 1, id="top-k-with-predict"),
        pytest.param(CLASSIFIER, "predict_proba", 5, id="top-k-with-probabilities"),
    ],
)
def test_a_method_that_the_model_has_is_allowed(signature: Signature, method: str, top_k: int | None) -> None:
    signature.check_method(method, top_k)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[FeatureType, st.SearchStrategy[Any]] = {
    "number": INT64 | FINITE,
    "integer": INT64 | st.integers(-(2**53), 2**53).map(float),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TEXT_LENGTH),
    "boolean": st.booleans(),
}
TYPES: dict[FeatureType, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "string": (str,),
    "boolean": (bool,),
}
FEATURES = st.lists(
    st.builds(Feature, name=NAMES, type=st.sampled_from(list(VALUES)), nullable=st.booleans()),
    min_size=1,
    max_size=5,
    unique_by=lambda feature: feature.name,
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda parts: st.lists(parts, max_size=5) | st.dictionaries(NAMES, parts, max_size=5),
    max_leaves=8,
)


def value_of(feature: Feature) -> st.SearchStrategy[Any]:
    return VALUES[feature.type] | st.none() if feature.nullable else VALUES[feature.type]


def row_of(features: list[Feature]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(*(value_of(feature) for feature in features)).map(list)


def outcome_of(check: RowChecker, rows: list[Any]) -> tuple[list[list[Any]] | None, tuple[Mapping[str, Any], ...]]:
    """The checked rows, or None and their faults."""
    try:
        return check.check(rows), ()
    except InvalidRequest as error:
        return None, error.errors


def is_right(feature: Feature, value: Any) -> bool:
    return feature.nullable if value is None else type(value) in TYPES[feature.type]


@st.composite
def mixed_rows(draw: st.DrawFn) -> tuple[list[Feature], list[Any]]:
    """Features, and rows of which some may be right."""
    features = draw(FEATURES)
    loose = st.lists(ANY_JSON, min_size=len(features), max_size=len(features))
    named = st.fixed_dictionaries({feature.name: ANY_JSON | value_of(feature) for feature in features})
    return features, draw(st.lists(row_of(features) | named | loose | ANY_JSON, max_size=MAX_ROWS + 2))


@given(mixed_rows())
def test_any_rows_are_refused_with_their_faults_or_come_back_whole(case: tuple[list[Feature], list[Any]]) -> None:
    features, rows = case

    checked, errors = outcome_of(checker(*features), rows)

    if checked is None:
        assert 1 <= len(errors) <= MOST_ERRORS
        assert {fault["code"] for fault in errors} <= CODES
        assert all(fault["pointer"].startswith("/instances") and fault["message"] for fault in errors)
        assert all(1 <= fault["row"] <= len(rows) for fault in errors if "row" in fault)
    else:
        assert len(checked) == len(rows)
        assert {len(row) for row in checked} == {len(features)}
        assert all(is_right(feature, value) for row in checked for feature, value in zip(features, row, strict=True))


@st.composite
def right_rows(draw: st.DrawFn) -> tuple[list[Feature], list[list[Any]], list[dict[str, Any]]]:
    """Features, right rows as arrays, and the same rows as records with shuffled keys and further columns."""
    features = draw(FEATURES)
    rows = draw(st.lists(row_of(features), min_size=1, max_size=6))
    names = [feature.name for feature in features]
    further = st.dictionaries(NAMES.filter(lambda name: name not in names), ANY_JSON, max_size=3)
    order = draw(st.randoms(use_true_random=False))
    return features, rows, [shuffled(dict(zip(names, row, strict=True)) | draw(further), order) for row in rows]


def shuffled(record: dict[str, Any], order: random.Random) -> dict[str, Any]:
    items = list(record.items())
    order.shuffle(items)
    return dict(items)


@given(right_rows())
def test_right_rows_pass_in_order_as_arrays_and_as_records(
    case: tuple[list[Feature], list[list[Any]], list[dict[str, Any]]],
) -> None:
    features, arrays, records = case
    check = checker(*features)

    from_arrays, from_records = check.check(arrays), check.check(records)

    assert from_arrays == arrays
    assert orjson.dumps(from_records) == orjson.dumps(from_arrays)
