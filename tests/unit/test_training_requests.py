"""`POST /models/<name>/retrain` and `POST /jobs` of kind train: what is asked for, and what is refused at once."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import orjson
import pytest
from werkzeug.test import TestResponse

from api import training
from api.options import TRAIN_QUERY
from shared.requests import TrainRequest
from shared.signature import Feature, Signature
from shared.training import CLASSIFICATION_METRICS, REGRESSION_METRICS
from tests.unit.file_fakes import AB, FileService
from worker.training.metrics import METRICS
from worker.training.task import Task

CSV = b"id,a,b,y,w\n1,2,3,4,1\n"
PATH = "/models/m/retrain"


@pytest.fixture
def service(tmp_path: Path) -> FileService:
    service = FileService(tmp_path)
    service.app.register_blueprint(training.routes(service.services))
    return service


def retrained(service: FileService, path: str = PATH, data: bytes = CSV, **query: Any) -> TestResponse:
    """The answer to a CSV file with options in the query; what is no text is sent as JSON."""
    options = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in query.items()}
    return service.client.post(f"{path}?{urlencode(options)}", data=data, content_type="text/csv")


def fault(answer: TestResponse) -> dict[str, Any]:
    """The one fault that an answer points at."""
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    (found,) = answer.json["errors"]
    return dict(found)


def test_a_file_with_its_options_in_the_query_is_a_training_of_production(service: FileService) -> None:
    answer = retrained(
        service, target="y", sample_weight="w", group="id", held_out="0.3", promote="manual", priority="low",
        recipe={"params": {"alpha": 2}}, gate={"metric": "mae", "min_improvement": 0.5},
    )  # fmt: skip

    assert answer.status_code == 202, answer.text
    spec = service.job.spec
    assert (spec.kind, spec.model, spec.version, spec.requested, spec.priority) == (
        "train",
        "m",
        1,
        "m@production",
        "low",
    )
    assert spec.train is not None
    assert (spec.train.target, spec.train.sample_weight, spec.train.group) == ("y", "w", "id")
    assert (spec.train.held_out, spec.train.promote) == (0.3, "manual")
    assert (spec.train.recipe.base, spec.train.recipe.params) == ("m@1", {"alpha": 2})
    assert (spec.train.gate.metric, spec.train.gate.min_improvement) == ("mae", 0.5)
    assert service.services.storage.get(spec.train.input.key or "") == CSV
    assert spec.train.input.sha256 == hashlib.sha256(CSV).hexdigest()


@pytest.mark.parametrize("path", [PATH, "/jobs"])
def test_json_that_names_a_file_is_the_same_on_either_route(service: FileService, path: str) -> None:
    service.keep(CSV)
    more = {} if path == PATH else {"kind": "train", "model": "m"}

    answer = service.client.post(path, json={"input": {"file_id": "f1"}, "target": "y"} | more)

    assert answer.status_code == 202, answer.text
    assert service.job.file_id == "f1"
    assert service.job.spec.train is not None
    assert service.job.spec.train.target == "y"


@pytest.mark.parametrize("parts", [("job", "file"), ("file", "job")], ids=["job-first", "file-first"])
@pytest.mark.parametrize("path", [PATH, "/jobs"])
def test_a_form_brings_file_and_options_in_either_order(
    service: FileService, path: str, parts: tuple[str, ...]
) -> None:
    job = orjson.dumps({"target": "y"} | ({} if path == PATH else {"kind": "train", "model": "m"}))
    sent = {"job": (None, job), "file": ("rows.csv", CSV)}
    body = b"".join(_part(name, *sent[name]) for name in parts) + b"--b--\r\n"

    answer = service.client.post(path, data=body, content_type="multipart/form-data; boundary=b")

    assert answer.status_code == 202, answer.text
    assert service.job.spec.train is not None
    assert service.job.spec.train.input.name == "rows.csv"
    assert service.job.spec.train.input.sha256 == hashlib.sha256(CSV).hexdigest()


def _part(name: str, file_name: str | None, data: bytes) -> bytes:
    file = f'; filename="{file_name}"' if file_name else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def test_a_check_starts_nothing_and_keeps_nothing(service: FileService) -> None:
    answer = retrained(service, target="y", validate_only="true")

    assert answer.status_code == 200, answer.text
    assert answer.json == {
        "valid": True, "rows": None, "queue_length": None, "estimated_seconds": None,
        "model": {"requested": "m@production", "name": "m", "version": 1, "sha256": "sha of 1"},
    }  # fmt: skip
    assert service.is_clean()


@pytest.mark.parametrize("validate_only", ["true", "false"])
def test_a_column_that_the_file_lacks_is_named_before_the_file_has_come(
    service: FileService, validate_only: str
) -> None:
    answer = retrained(service, target="price", validate_only=validate_only)

    assert fault(answer) == {
        "column": "price", "code": "missing_column",
        "message": "Column 'price' is not in the file. It has id, a, b, y, w.",
    }  # fmt: skip
    assert service.is_clean()


@pytest.mark.parametrize(
    ("options", "pointer", "code", "words"),
    [
        pytest.param({}, "/target", "missing", "target is missing.", id="no-target"),
        pytest.param({"target": "a"}, "/target", "column_taken", "a feature of the model", id="feature-as-target"),
        pytest.param({"target": "y", "sample_weight": "b"}, "/sample_weight", "column_taken", "feature", id="weight"),
        pytest.param(
            {"target": "y", "group": "id", "time": "w"}, "/time", "two_splits", "not by both", id="group-and-time"
        ),
        pytest.param({"target": "y", "held_out": "1.5"}, "/held_out", "less_than_equal", "0.9", id="held-out"),
        pytest.param({"target": "y", "held_out": "half"}, "/held_out", "float_type", "number", id="no-number"),
        pytest.param({"target": "y", "promote": "always"}, "/promote", "literal_error", "'manual'", id="promote"),
        pytest.param(
            {"target": "y", "combine": "append"}, "/combine", "nothing_to_append_to", "m@1 was trained on are not kept",
            id="nothing-to-append-to",
        ),
        pytest.param({"target": "y", "recipe": 5}, "/recipe", "model_type", "must be a JSON object", id="recipe"),
        pytest.param(
            {"target": "y", "recipe": {"param": {}}}, "/recipe/param", "unknown_field", "did you mean params?",
            id="field-of-recipe",
        ),
        pytest.param(
            {"target": "y", "recipe": {"params": {}, "param_grid": {}}}, "/recipe", "ambiguous_recipe", "one of",
            id="two-recipes",
        ),
        pytest.param(
            {"target": "y", "gate": {"metrics": "mae"}}, "/gate/metrics", "unknown_field", "did you mean metric?",
            id="field-of-gate",
        ),
        pytest.param(
            {"target": "y", "gate": {"metric": "rsme"}}, "/gate/metric", "unknown_metric", "did you mean rmse?",
            id="unknown-metric",
        ),
        pytest.param(
            {"target": "y", "gate": {"metric": "accuracy"}}, "/gate/metric", "unknown_metric", "rmse, mae, r2",
            id="metric-of-another-task",
        ),
    ],
)  # fmt: skip
def test_what_can_be_seen_to_be_wrong_is_refused_at_once(
    service: FileService, options: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    answer = retrained(service, **options)

    found = fault(answer)
    assert (found["pointer"], found["code"]) == (pointer, code)
    assert words in found["message"]
    assert service.is_clean()


def test_a_classifier_is_not_compared_by_rmse(service: FileService) -> None:
    service.index.publish(replace(AB, classes=("no", "yes")))

    found = fault(retrained(service, target="y", gate={"metric": "rmse"}))

    assert found["message"] == (
        "'rmse' is no metric of classification, which m@2 does; for it there are log_loss, accuracy, f1, roc_auc."
    )


@pytest.mark.parametrize("task", get_args(Task))
def test_the_metrics_that_are_taken_are_those_that_a_worker_knows(task: Task) -> None:
    taken = REGRESSION_METRICS if task == "regression" else CLASSIFICATION_METRICS

    assert set(taken) == {metric.name for metric in METRICS.values() if task in metric.tasks}


def test_json_in_the_query_that_is_none_is_named(service: FileService) -> None:
    answer = retrained(service, target="y", recipe="{params: 1}")

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")
    assert answer.json["detail"].startswith("The parameter recipe is not JSON: ")


@pytest.mark.parametrize("name", ["colour", "model", "kind", "key", "output_format"])
def test_a_parameter_that_would_do_nothing_is_refused(service: FileService, name: str) -> None:
    options = {"target": "y", name: "m"}

    answer = service.client.post(f"{PATH}?{urlencode(options)}", data=CSV, content_type="text/csv")

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (400, "unknown_parameter")


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        pytest.param({"target": "y", "model": "other"}, "/model", "model_mismatch", id="another-model"),
        pytest.param({"target": "y", "kind": "batch"}, "/kind", "literal_error", id="another-kind"),
        pytest.param({"target": "y", "input": {}}, "/input", "input_missing", id="no-input"),
        pytest.param({"target": "y", "instances": []}, "/instances", "unknown_field", id="rows"),
    ],
)
def test_a_body_that_cannot_be_a_training_of_the_model_is_refused(
    service: FileService, body: dict[str, Any], pointer: str, code: str
) -> None:
    service.keep(CSV)

    found = fault(service.client.post(PATH, json={"input": {"file_id": "f1"}} | body))

    assert (found["pointer"], found["code"]) == (pointer, code)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param("training", "predict, batch or train, not training", id="unknown"),
        pytest.param("register", "/models/<name>/versions", id="register"),
        pytest.param(["train"], "predict, batch or train", id="no-text"),
        pytest.param(None, "predict, batch or train", id="null"),
    ],
)
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    service: FileService, kind: Any, words: str
) -> None:
    found = fault(service.client.post("/jobs", json={"kind": kind, "model": "m", "target": "y"}))

    assert (found["pointer"], found["code"]) == ("/kind", "unknown_kind")
    assert words in found["message"]


@pytest.mark.parametrize(
    "name",
    ["m@1", "a b", "ä", "%F0%9F%98%80", "x" * 65, "-m"],
    ids=["version", "blank", "letter", "emoji", "long", "dash"],
)
def test_what_is_no_model_name_is_refused(service: FileService, name: str) -> None:
    found = fault(retrained(service, f"/models/{name}/retrain", target="y"))

    assert (found["pointer"], found["code"]) == ("/model", "bad_model_name")


def test_a_file_that_is_sent_to_the_jobs_trains_the_model_that_the_query_names(service: FileService) -> None:
    options: dict[str, Any] = {"target": "y", "group": "id", "recipe": {"params": {"alpha": 2}}}

    answers = [retrained(service, **options), retrained(service, "/jobs", kind="train", model="m", **options)]

    assert [answer.status_code for answer in answers] == [202, 202], answers[1].text
    by_path, by_query = (job.spec for job in service.store.submitted)
    assert by_path.train is not None
    assert by_query.train is not None
    assert replace(by_query.train, input=by_path.train.input) == by_path.train
    assert (by_query.model, by_query.version, by_query.requested) == ("m", 1, "m@production")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        pytest.param({"kind": "train", "target": "y"}, 422, "missing", id="no-model"),
        pytest.param({"kind": "train", "model": "m"}, 422, "missing", id="no-target"),
        pytest.param({"kind": "train", "model": "m", "target": "z"}, 422, "missing_column", id="no-such-column"),
        pytest.param({"kind": "learn", "model": "m"}, 422, "unknown_kind", id="unknown-kind"),
        pytest.param({"kind": "predict", "model": "m"}, 422, "kind_mismatch", id="predict"),
        pytest.param(
            {"kind": "train", "model": "m", "target": "y", "key": "id"}, 400, "unknown_parameter", id="of-a-batch"
        ),
        pytest.param({"model": "m", "target": "y"}, 400, "unknown_parameter", id="target-without-kind"),
    ],
)
def test_a_query_that_makes_no_training_is_refused(
    service: FileService, query: dict[str, Any], status: int, code: str
) -> None:
    answer = retrained(service, "/jobs", **query)

    assert answer.json is not None
    assert answer.status_code == status, answer.text
    assert code in (answer.json["code"], *(found["code"] for found in answer.json["errors"]))


def test_a_model_that_does_not_exist_can_only_begin_as_another(service: FileService) -> None:
    unknown = retrained(service, "/models/new/retrain", target="y")
    first = retrained(service, "/models/new/retrain", target="y", recipe={"base": "m"})

    assert unknown.json is not None
    assert (unknown.status_code, unknown.json["code"]) == (404, "model_not_found")
    assert "recipe.base" in unknown.json["detail"]
    assert first.status_code == 202, first.text
    assert (service.job.spec.model, service.job.spec.version) == ("new", 0)


def test_columns_of_a_first_version_are_those_of_its_base(service: FileService) -> None:
    service.index.publish(Signature(container="matrix", features=(Feature(name="z", type="number"),), methods=()))

    answer = retrained(service, "/models/new/retrain", target="y", recipe={"base": "m@1"})
    other = retrained(service, "/models/new/retrain", target="y", recipe={"base": "m@2"})

    assert answer.status_code == 202, answer.text
    assert fault(other)["column"] == "z"


def test_every_option_of_the_body_can_be_said_in_the_query() -> None:
    told = set(TRAIN_QUERY) | {"metadata", "input"}

    assert told == set(TrainRequest.model_fields) | {"format"}
