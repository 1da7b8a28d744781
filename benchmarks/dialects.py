"""How each system is asked: one question as the body of a request, and an answer as predictions."""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.connection import VoidRunError

Document = dict[str, Any]
Predictions = list[Any]
# Sums of products come out differently in batches of another size.
TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Question:
    """Rows for a model, and the predictions that are their only right answer: numbers or classes, in order."""

    model: str
    instances: list[Any]
    predictions: Predictions

    def is_answered_by(self, predictions: Any) -> bool:
        if not isinstance(predictions, list) or len(predictions) != len(self.predictions):
            return False
        return all(map(_equal, predictions, self.predictions))


class Step(enum.Enum):
    """What a client does next that holds no prediction yet: ask again, or fetch the result from another address."""

    WAIT = "wait"
    FETCH = "fetch"


def _instances(question: Question) -> Document:
    return {"model": question.model, "instances": question.instances}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Where to submit, with which header lines, what is sent, and how an answer is read.

    A document with the field `job_id` is an accepted job, asked for by `poll_path` and, if its result lies elsewhere,
    by `result_path`, in both of which `{id}` stands for its id. `read` raises VoidRunError for a failed job.
    """

    submit_path: str
    headers: tuple[str, ...] = ()
    encode: Callable[[Question], Document] = _instances
    read: Callable[[Any], Predictions | Step]
    job_id: str = "id"
    poll_path: str = "/jobs/{id}"
    result_path: str = ""


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return bool(found == expected)
    return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=TOLERANCE)


def _read_foretell(job: Document) -> Predictions | Step:
    if not job["done"]:
        return Step.WAIT
    if job["status"] != "succeeded":
        raise VoidRunError(f"a job ended {job['status']}: {job['failure']}")
    predictions: Predictions = job["result"]["predictions"]
    return predictions


def _read_task(job: Document) -> Predictions | Step:
    """A task of Celery, or one of rq, whose states the peer names as Celery does."""
    status = job.get("status", "PENDING")
    if status in ("PENDING", "STARTED"):
        return Step.WAIT
    if status != "SUCCESS":
        raise VoidRunError(f"a task ended {status}")
    predictions: Predictions = job["prediction"]
    return predictions


def _read_bentoml_task(answer: Any) -> Predictions | Step:
    if isinstance(answer, list):
        return answer
    if answer["status"] in ("pending", "in_progress"):
        return Step.WAIT
    if answer["status"] != "completed":
        raise VoidRunError(f"a task ended {answer['status']}")
    return Step.FETCH


def _read_predictions(answer: Document) -> Predictions:
    predictions: Predictions = answer["predictions"]
    return predictions


def _read_list(answer: Any) -> Predictions:
    if not isinstance(answer, list):
        raise VoidRunError(f"not a list of predictions: {answer!r}")
    return answer


def _read_tensor(answer: Document) -> Predictions:
    predictions: Predictions = answer["outputs"][0]["data"]
    return predictions


def _only_instances(question: Question) -> Document:
    return {"instances": question.instances}


def _inputs(question: Question) -> Document:
    return {"inputs": question.instances}


def _tensor(question: Question) -> Document:
    """One input tensor of the Open Inference Protocol v2 (section "Inference Request JSON Object").

    Its content types are those that MLServer's page "Content Types" has for a list of strings and for an array.
    """
    rows = question.instances
    if isinstance(rows[0], str):
        described: Document = {"shape": [len(rows), 1], "datatype": "BYTES", "parameters": {"content_type": "str"}}
    else:
        described = {"shape": [len(rows), len(rows[0])], "datatype": "FP64", "parameters": {"content_type": "np"}}
    kind = described["parameters"]["content_type"]
    return {"parameters": {"content_type": kind}, "inputs": [{"name": "rows", "data": rows, **described}]}


FORETELL_POLL = Dialect(submit_path="/jobs", read=_read_foretell)
FORETELL_WAIT = Dialect(submit_path="/jobs", read=_read_foretell, headers=("Prefer: wait=10",))
TASK = Dialect(submit_path="/jobs", read=_read_task)
PREDICT = Dialect(submit_path="/predict", read=_read_predictions)
BENTOML_TASK = Dialect(
    submit_path="/predict/submit",
    encode=_only_instances,
    read=_read_bentoml_task,
    job_id="task_id",
    poll_path="/predict/status?task_id={id}",
    result_path="/predict/get?task_id={id}",
)
BENTOML = Dialect(submit_path="/predict", encode=_only_instances, read=_read_list)
TENSORS = Dialect(submit_path="/v2/models/bench/infer", encode=_tensor, read=_read_tensor)
INVOCATIONS = Dialect(submit_path="/invocations", encode=_inputs, read=_read_predictions)
