"""The Open Inference Protocol v2, asked by the public client of Triton, by JSON and by bytes."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.processes import Http
from tests.system.rows import HOME, LINEAR, LINEAR_ROWS, OTHER_TEXT, REFUSED_HOME, TEXT
from tests.system.service import Barrier, Service

DATATYPES = {"number": ("FP64", np.float64), "integer": ("INT64", np.int64), "boolean": ("BOOL", np.bool_)}
BINARY = pytest.mark.parametrize("binary", [False, True], ids=["json", "bytes"])


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{service.settings.port}", network_timeout=40)
    yield client
    client.close()


def tensor(name: str, values: NDArray[Any], datatype: str, *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def matrix(rows: list[list[float]], *, binary: bool = True) -> Any:
    return tensor("input", np.array(rows, dtype=np.float64), "FP64", binary=binary)


def texts(values: list[str], *, binary: bool = True) -> Any:
    return tensor("text", np.array([[value.encode()] for value in values], dtype=np.object_), "BYTES", binary=binary)


def columns_of(http: Http, model: str, rows: list[dict[str, Any]], *, binary: bool) -> list[Any]:
    """A tensor for each feature; a missing number is NaN, which only bytes can say."""
    features = http("GET", f"/models/{model}").json["versions"][0]["signature"]["features"]
    tensors = []
    for feature in features:
        values = [row[feature["name"]] for row in rows]
        if feature["type"] == "string":
            array: NDArray[Any] = np.array([value.encode() for value in values], dtype=np.object_)
            tensors.append(tensor(feature["name"], array, "BYTES", binary=binary))
            continue
        missing = any(value is None for value in values)
        datatype, kind = ("FP64", np.float64) if missing else DATATYPES[feature["type"]]
        filled = [np.nan if value is None else value for value in values]
        tensors.append(tensor(feature["name"], np.array(filled, dtype=kind), datatype, binary=binary or missing))
    return tensors


def predicted(http: Http, model: str, instances: list[Any], **more: Any) -> list[Any]:
    """What POST /jobs answers for the same rows."""
    answer = http("POST", "/jobs", {"model": model, "instances": instances, **more}, Prefer="wait=30")
    predictions: list[Any] = answer.json["result"]["predictions"]
    return predictions


def refused(ask: Callable[[], Any]) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        ask()
    return caught.value


def sent(http: Http, body: dict[str, Any], model: str = "linear", **headers: Any) -> Any:
    return http("POST", f"/v2/models/{model}/infer", body, **headers)


def asked(rows: Any = LINEAR, **more: Any) -> dict[str, Any]:
    """One row as JSON, without a client."""
    return {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 3], "data": rows}], **more}


def test_the_server_and_its_models_are_there_and_ready(client: Any) -> None:
    assert (client.is_server_live(), client.is_server_ready()) == (True, True)
    assert (client.is_model_ready("linear"), client.is_model_ready("linear", "1")) == (True, True)
    assert client.is_model_ready("linear", "production") is True
    assert client.is_model_ready("nobody") is False
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


def test_the_metadata_name_the_tensors_of_a_matrix(client: Any) -> None:
    about = client.get_model_metadata("linear")

    assert about["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 3]}]
    assert about["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    assert about["versions"] == ["1"]


def test_the_metadata_name_a_tensor_for_each_feature_and_method(client: Any) -> None:
    home, support = client.get_model_metadata("home", "1"), client.get_model_metadata("support")

    datatypes = {one["name"]: one["datatype"] for one in home["inputs"]}
    assert (datatypes["heating_mode"], datatypes["window_open"], datatypes["outdoor_celsius"]) == (
        "BYTES", "BOOL", "FP64",
    )  # fmt: skip
    assert support["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    outputs = {one["name"]: (one["datatype"], one["shape"]) for one in support["outputs"]}
    assert (outputs["predict"], outputs["predict_proba"]) == (("BYTES", [-1]), ("FP64", [-1, 9]))


@BINARY
def test_a_matrix_is_predicted_as_by_a_job(client: Any, http: Http, binary: bool) -> None:
    wanted = [triton.InferRequestedOutput("predict", binary_data=binary)]

    result = client.infer("linear", [matrix(LINEAR_ROWS, binary=binary)], outputs=wanted, request_id="mine")

    assert result.as_numpy("predict").tolist() == predicted(http, "linear", LINEAR_ROWS)
    assert result.get_response()["id"] == "mine"
    assert result.get_response()["model_version"] == "1"


def test_the_answer_names_the_job_that_made_it(client: Any, http: Http) -> None:
    response = client.infer("linear", [matrix([LINEAR])], request_id="mine").get_response()

    job = http("GET", f"/jobs/{response['parameters']['job_id']}").json
    assert (job["status"], job["kind"], job["metadata"]) == ("succeeded", "predict", {"id": "mine"})
    assert job["model"]["sha256"] == response["parameters"]["sha256"]


@BINARY
def test_a_tensor_for_each_feature_is_predicted_as_by_a_job(client: Any, http: Http, binary: bool) -> None:
    rows = [HOME, HOME | {"hour": 3, "humidity_percent": 40.0, "heating_mode": "eco"}]

    result = client.infer("home", columns_of(http, "home", rows, binary=binary))

    assert result.as_numpy("predict").tolist() == predicted(http, "home", rows)


@pytest.mark.parametrize(("datatype", "kind"), [("FP32", np.float32), ("FP16", np.float16), ("INT8", np.int8)])
def test_numbers_may_be_of_any_datatype(client: Any, http: Http, datatype: str, kind: Any) -> None:
    rows = np.array([[1, 0, -1], [0.5, 2, 3]]).astype(kind)

    result = client.infer("linear", [tensor("input", rows, datatype)])

    assert result.as_numpy("predict").tolist() == predicted(http, "linear", rows.astype(float).tolist())


@BINARY
def test_strings_go_in_and_come_out(client: Any, http: Http, binary: bool) -> None:
    wanted = [triton.InferRequestedOutput("predict", binary_data=binary)]

    result = client.infer("support", [texts([TEXT, OTHER_TEXT], binary=binary)], outputs=wanted)

    found = [value.decode() if isinstance(value, bytes) else value for value in result.as_numpy("predict")]
    assert found == predicted(http, "support", [TEXT, OTHER_TEXT])


def test_an_output_is_called_as_the_method_that_gives_it(client: Any, http: Http) -> None:
    wanted = [triton.InferRequestedOutput("predict_proba")]

    result = client.infer("support", [texts([TEXT])], outputs=wanted)

    assert result.as_numpy("predict_proba").tolist() == predicted(http, "support", [TEXT], method="predict_proba")


def test_the_most_probable_classes_are_two_tensors(client: Any, http: Http) -> None:
    result = client.infer("support", [texts([TEXT])], parameters={"top_k": 2, "priority_of_others": "x"})

    best = predicted(http, "support", [TEXT], top_k=2)[0]
    assert [item.decode() for item in result.as_numpy("item")[0]] == [one["item"] for one in best]
    assert result.as_numpy("score")[0].tolist() == [one["score"] for one in best]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_body_may_be_compressed(client: Any, http: Http, algorithm: str) -> None:
    result = client.infer(
        "linear", [matrix(LINEAR_ROWS)], request_compression_algorithm=algorithm, response_compression_algorithm="gzip"
    )

    assert result.as_numpy("predict").tolist() == predicted(http, "linear", LINEAR_ROWS)


def test_a_body_that_unpacks_to_more_than_is_allowed_is_refused(client: Any, service: Service) -> None:
    rows = np.zeros((service.settings.max_body_bytes // 24 + 1, 3))

    error = refused(
        lambda: client.infer("linear", [tensor("input", rows, "FP64")], request_compression_algorithm="gzip")
    )

    assert error.status() == "413"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param(
            [tensor("input", np.zeros((1, 2)), "FP64")], "Tensor input has the shape [1, 2]", id="width"
        ),
        pytest.param([tensor("x1", np.zeros(1), "FP64")], "There is no tensor x2", id="missing"),
        pytest.param(
            [tensor("input", np.zeros((1, 3), dtype=np.bool_), "BOOL")], "Tensor input is BOOL", id="datatype"
        ),
        pytest.param(
            [tensor(name, np.zeros(1), "FP64") for name in ("x1", "x2", "x3", "x4")],
            "Tensor x4 is no feature",
            id="unknown",
        ),
        pytest.param(
            [tensor("x1", np.zeros(2), "FP64"), *(tensor(name, np.zeros(1), "FP64") for name in ("x2", "x3"))],
            "Tensor x2 has 1 rows, but x1 has 2",
            id="lengths",
        ),
        pytest.param([tensor("input", np.zeros((0, 3)), "FP64")], "There are no rows", id="no-rows"),
        pytest.param([matrix([[np.nan, 0, 0]])], "Column x1 is null", id="missing-value"),
        pytest.param([matrix([[np.inf, 0, 0]])], "Column x1 must be a finite number", id="infinite"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_named(client: Any, inputs: list[Any], message: str) -> None:
    error = refused(lambda: client.infer("linear", inputs))

    assert (error.status(), message in error.message()) == ("422", True), error


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(asked([1, 2, "x"]), "wrong_datatype", id="text-for-number"),
        pytest.param(asked([1, 2]), "wrong_shape", id="too-few"),
        pytest.param(asked([[1, 2], [3]]), "wrong_shape", id="ragged"),
        pytest.param(asked(outputs=[{"name": "nobody"}]), "unknown_output", id="output"),
        pytest.param(
            asked(outputs=[{"name": "predict", "parameters": {"classification": 2}}]), "not_supported", id="classes"
        ),
        pytest.param(asked(parameters={"top_k": 0}), "greater_than_equal", id="top-k"),
        pytest.param(asked(parameters={"priority": 1}), "literal_error", id="priority"),
        pytest.param(asked(parameters={"webhook": "nonsense"}), "bad_scheme", id="webhook"),
        pytest.param({"inputs": []}, "too_short", id="no-inputs"),
        pytest.param(
            {
                "inputs": [
                    {"name": "input", "datatype": "FP64", "shape": [1, 3], "parameters": {"binary_data_size": 24}}
                ]
            },
            "wrong_size",
            id="no-bytes",
        ),
    ],
)
def test_a_wrong_request_says_where(http: Http, body: dict[str, Any], code: str) -> None:
    answer = sent(http, body)

    assert (answer.status, answer.json["errors"][0]["code"]) == (422, code), answer
    assert answer.json["error"] == answer.json["detail"]


def test_a_value_that_is_wrong_is_pointed_at_by_its_row_and_its_tensor(http: Http) -> None:
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [2], "data": [0, None if name == "x2" else 0]}
        for name in ("x3", "x2", "x1")
    ]

    error = sent(http, {"inputs": inputs}).json["errors"][0]

    assert (error["row"], error["column"], error["pointer"]) == (2, "x2", "/inputs/1/data")


def test_a_model_is_called_as_in_jobs_too(http: Http) -> None:
    known = http("GET", "/v2/models/linear/versions/1").json

    assert http("GET", "/v2/models/linear@1").json == known


def test_a_parameter_that_is_null_is_as_if_it_was_not_there(http: Http) -> None:
    answer = sent(http, asked(parameters={"top_k": None, "webhook": None}))

    assert (answer.status, [one["name"] for one in answer.json["outputs"]]) == (200, ["predict"])


def test_who_is_unknown_is_told_what_there_is(client: Any) -> None:
    error = refused(lambda: client.infer("nobody", [matrix([LINEAR])]))

    assert error.status() == "404"
    assert "linear" in error.message()


def test_a_row_that_the_model_refuses_fails_the_request_and_is_named(client: Any, http: Http) -> None:
    rows = [HOME, REFUSED_HOME]

    error = refused(lambda: client.infer("home", columns_of(http, "home", rows, binary=True)))

    assert error.status() == "422"
    assert "row 2" in error.message()


def test_a_client_that_does_not_wait_gets_a_job(http: Http, barrier: Barrier, service: Service) -> None:
    for _ in range(service.settings.workers):
        barrier.hold()

    answer = sent(http, asked(), Prefer="respond-async")

    assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.headers["location"] == f"/jobs/{answer.json['id']}"
    barrier.open()
    assert http.done(answer.json["id"])["result"]["predictions"] == predicted(http, "linear", [LINEAR])


def test_a_job_that_is_not_done_in_time_is_named_and_can_be_had_later(http: Http, held_workers: Barrier) -> None:
    late = sent(http, asked(), Prefer="wait=0", Idempotency_Key="late")

    assert (late.status, late.json["code"]) == (504, "not_done_in_time")
    job_id = late.json["job_id"]
    assert f"/jobs/{job_id}" in late.json["error"]
    held_workers.open()
    again = sent(http, asked(), Idempotency_Key="late")
    assert (again.status, again.json["parameters"]["job_id"]) == (200, job_id)


def test_a_key_that_is_used_again_for_another_tensor_is_refused(http: Http) -> None:
    first = sent(http, asked(), Idempotency_Key="twice")

    again = [sent(http, asked(rows), Idempotency_Key="twice") for rows in (LINEAR, [0, 0, 0])]

    assert first.status == 200
    assert again[0].json == first.json
    assert (again[1].status, again[1].json["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content_Type": "text/plain"}, 415, id="media-type"),
        pytest.param({"Content_Encoding": "br"}, 415, id="encoding"),
        pytest.param({"Content_Encoding": "gzip"}, 400, id="not-gzip"),
        pytest.param({"Inference_Header_Content_Length": "x"}, 400, id="header-length"),
        pytest.param({"Inference_Header_Content_Length": "9"}, 400, id="header-cut-off"),
    ],
)
def test_a_header_that_is_not_true_is_refused(http: Http, headers: dict[str, Any], status: int) -> None:
    answer = http("POST", "/v2/models/linear/infer", raw=json.dumps(asked()).encode(), **headers)

    assert (answer.status, answer.json["error"]) == (status, answer.json["detail"])
