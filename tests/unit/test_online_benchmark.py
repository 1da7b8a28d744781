"""The benchmark of small jobs takes no wrong, lost or doubled answer for a right one, whoever gives it."""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment, online
from benchmarks.__main__ import chosen_parts
from benchmarks.connection import VoidRunError
from benchmarks.dialects import BENTOML_TASK, PREDICT, TASK, TENSORS, Dialect, Question
from benchmarks.environment import LOCKS, UnavailableError
from benchmarks.load import Load, Outcome, RefusedError
from benchmarks.peer_systems import SYSTEMS
from benchmarks.questions import BenchModel, prepare_model
from benchmarks.report import Cell, Figures, Measured, as_json, ratios, text

Answer = tuple[int, Any]
QUESTIONS = [Question(model="m", instances=[[float(n)]], predictions=[n * 2.0]) for n in range(1, 20_000)]


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up, as one does that has seen a wrong answer."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


@contextmanager
def serving(
    respond: Callable[[str, str, Any], Answer], *, chunked: bool = False, retry_after: str = ""
) -> Iterator[int]:
    """A server on a free port that answers as it is told: method, path and document in, status and document out."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, document: Any) -> None:
            status, answer = respond(self.command, self.path, document)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if retry_after and status == 503:
                self.send_header("Retry-After", retry_after)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:3], body[3:])) + b"0\r\n\r\n"
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            """Nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port: int, dialect: Dialect) -> Outcome:
    return Load(port, dialect, QUESTIONS, clients=3).run(warm_up_seconds=0, seconds=0.1)


def doubled(document: Any) -> list[float]:
    return [row[0] * 2 for row in document["instances"]]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_right_answers_are_taken(chunked: bool) -> None:
    asked: list[Any] = []

    def respond(_method: str, _path: str, document: Any) -> Answer:
        asked.append(document)
        return 200, {"predictions": doubled(document)}

    with serving(respond, chunked=chunked) as port:
        outcome = ask(port, PREDICT)

    # At least one of each client, and nothing that was not asked for; the window may have missed the last of them.
    assert 3 <= len(asked) >= outcome.jobs


def test_a_task_of_bentoml_is_submitted_polled_and_fetched() -> None:
    results: dict[str, list[float]] = {}
    polled: set[str] = set()

    def respond(method: str, path: str, document: Any) -> Answer:
        if method == "POST":
            task_id = f"t{document['instances'][0][0]}"
            results[task_id] = doubled(document)
            return 200, {"task_id": task_id, "status": "in_progress"}
        page, _, task_id = path.partition("?task_id=")
        if page.endswith("/get"):
            return 200, results[task_id]
        status = "completed" if task_id in polled else "in_progress"
        polled.add(task_id)
        return 200, {"task_id": task_id, "status": status}

    with serving(respond) as port:
        ask(port, BENTOML_TASK)

    assert len(polled) >= 3
    assert polled == set(results)


@pytest.mark.parametrize(
    ("dialect", "respond"),
    [
        pytest.param(PREDICT, lambda _m, _p, _d: (200, {"predictions": [0.5]}), id="wrong"),
        pytest.param(PREDICT, lambda _m, _p, d: (200, {"predictions": doubled(d) * 2}), id="a row twice"),
        pytest.param(PREDICT, lambda _m, _p, _d: (200, {"predictions": []}), id="a row lost"),
        pytest.param(PREDICT, lambda _m, _p, _d: (200, {"predictions": None}), id="nothing"),
        pytest.param(TASK, lambda _m, _p, _d: (202, {"id": "the same"}), id="one id for two jobs"),
        pytest.param(TASK, lambda _m, _p, _d: (200, {"status": "FAILURE"}), id="a failed task"),
    ],
)
def test_a_wrong_answer_voids_the_run(dialect: Dialect, respond: Callable[[str, str, Any], Answer]) -> None:
    with serving(respond) as port, pytest.raises(VoidRunError):
        ask(port, dialect)


def test_a_client_that_is_told_to_comes_again() -> None:
    seen: list[str] = []

    def respond(_method: str, _path: str, document: Any) -> Answer:
        row = str(document["instances"])
        seen.append(row)
        return (503, "busy") if seen.count(row) == 1 else (200, {"predictions": doubled(document)})

    with serving(respond, retry_after="0") as port:
        ask(port, PREDICT)

    assert len(seen) == 2 * len(set(seen)) >= 6


def test_an_answer_that_is_no_document_voids_the_run() -> None:
    with serving(lambda _m, _p, _d: (200, b"busy")) as port, pytest.raises(VoidRunError, match="busy"):
        ask(port, PREDICT)


def test_a_job_that_outlasts_the_window_is_told_of_in_the_latencies_alone() -> None:
    def answer(_method: str, _path: str, document: Any) -> Answer:
        time.sleep(0.5)
        return 200, {"predictions": [document["instances"][0][0] * 2]}

    with serving(answer) as port:
        outcome = Load(port, PREDICT, QUESTIONS, clients=1).run(warm_up_seconds=0, seconds=0.1)

    assert outcome.jobs == 0
    assert outcome.latency_ms(50) >= 500


def test_a_refusal_by_a_system_of_our_own_voids_the_run(model: BenchModel, tmp_path: Path) -> None:
    with serving(lambda _m, _p, _d: (500, {"error": "broken"})) as port:
        options = argparse.Namespace(seconds=0.1, warm_up=0.0)
        own, peer = (
            (replace(system, start=lambda *_: port), planned(system.name, "linear-bench", "poll")[:1])
            for name in ("foretell", "rq")
            for system in SYSTEMS
            if system.name == name
        )
        measured = Measured()

        online._measure_system(peer[0], model, peer[1], tmp_path, options, measured)
        with pytest.raises(VoidRunError, match="500"):
            online._measure_system(own[0], model, own[1], tmp_path, options, measured)

    assert list(measured.missing) == peer[1]


def test_a_refusal_is_not_taken_for_a_wrong_answer() -> None:
    with serving(lambda _m, _p, _d: (503, {"error": "busy"})) as port, pytest.raises(RefusedError, match="503"):
        ask(port, PREDICT)


@pytest.mark.parametrize(
    ("found", "right"),
    [
        pytest.param([1.0 + 1e-12, "b"], True, id="another order of summing"),
        pytest.param([1.001, "b"], False, id="another number"),
        pytest.param([1.0, "c"], False, id="another class"),
        pytest.param(["b", 1.0], False, id="another order"),
        pytest.param([1.0], False, id="too short"),
    ],
)
def test_every_prediction_of_a_job_is_compared(found: list[Any], right: bool) -> None:
    question = Question(model="m", instances=[[1], [2]], predictions=[1.0, "b"])

    assert question.is_answered_by(found) is right


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    return prepare_model("linear-bench", tmp_path_factory.mktemp("models"), seconds=0.1)


@pytest.mark.parametrize("rows", [1, 100])
def test_no_two_jobs_of_a_measurement_are_equal(rows: int, model: BenchModel) -> None:
    questions = list(model.questions(rows))

    assert len({json.dumps(question.instances) for question in questions}) == len(questions) > 1_000
    assert all(len(question.instances) == len(question.predictions) == rows for question in questions)


@pytest.mark.parametrize(("instances", "datatype"), [([[1.0, 2.0]], "FP64"), (["a", "b"], "BYTES")])
def test_a_tensor_has_the_shape_of_its_rows(instances: list[Any], datatype: str) -> None:
    tensor = TENSORS.encode(Question(model="m", instances=instances, predictions=[]))["inputs"][0]

    assert (tensor["datatype"], tensor["shape"][0]) == (datatype, len(instances))


def test_every_peer_has_a_lock_with_hashes_and_without_an_address() -> None:
    peers = {system.environment for system in SYSTEMS if system.environment} | {"plots", "profile"}

    assert {path.stem for path in LOCKS.glob("*.txt")} == {path.stem for path in LOCKS.glob("*.in")} == peers
    for peer in peers:
        lines = [line for line in (LOCKS / f"{peer}.txt").read_text().splitlines() if not line.strip().startswith("#")]
        assert not [line for line in lines if not line.endswith("\\") and not line.startswith("    --hash=sha256:")]
        assert not [line for line in lines if "://" in line or line.startswith("--")]
        assert len([line for line in lines if "==" in line]) > (0 if peer == "profile" else 5)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.txt").write_text("this is = no requirement\n")
    for name in ("LOCKS", "FOLDER", "CHECKOUT"):
        monkeypatch.setattr(environment, name, tmp_path)

    with pytest.raises(UnavailableError, match="cannot install broken"):
        environment.interpreter("broken")


def planned(*words: str, quick: bool = False) -> list[Cell]:
    return online.plan_of(argparse.Namespace(only=list(words), quick=quick))


def test_everything_is_measured_at_every_number_of_clients() -> None:
    cells = [cell for cell in planned() if cell.mode != "call"]

    systems = {(system.name, mode) for system in SYSTEMS for mode in system.dialects if mode != "call"}
    assert {(cell.system, cell.mode) for cell in cells} == systems
    assert len(cells) == len(systems) * 3 * 2 * 4
    assert len(planned()) == len(cells) + 1  # the empty task


def test_a_quick_run_has_what_the_goals_need() -> None:
    rounds = {cell: [figures(1.0)] for cell in planned(quick=True)}

    assert sum(bool(ratio.wanted) for ratio in ratios(rounds)) == 7


def test_words_of_one_part_leave_out_the_other() -> None:
    assert chosen_parts([]) == chosen_parts(["foretell"]) == ["jobs", "files"]
    assert chosen_parts(["linear-bench", "foretell"]) == ["jobs"]
    assert chosen_parts(["parquet"]) == ["files"]
    assert chosen_parts(["files", "foretell"]) == ["files"]


def figures(jobs_per_second: float) -> Figures:
    others = {name: 1.0 for name in Figures.__annotations__ if name != "jobs_per_second"}
    return Figures(jobs_per_second=jobs_per_second, **others)


def cell(system: str, mode: str) -> Cell:
    return Cell(model="forest-bench", rows=1, clients=16, system=system, mode=mode)


def test_the_goal_with_batches_is_measured_at_the_best_of_those_that_batch() -> None:
    rounds = {
        cell("foretell", "wait"): [figures(300), figures(300), figures(330)],
        cell("litserve", "sync"): [figures(200), figures(150), figures(300)],
        cell("ray-serve", "sync"): [figures(100), figures(100), figures(100)],
        cell("mlserver", "sync"): [figures(900), figures(900), figures(900)],  # it does not batch
    }

    (ratio,) = ratios(rounds)

    assert "litserve" in ratio.what
    assert (ratio.lowest, ratio.median, ratio.highest, ratio.wanted) == (1.1, 1.5, 2.0, ">= 1.0")


def test_what_could_not_be_measured_is_told_with_its_reason() -> None:
    measured = Measured(rounds={cell("foretell", "wait"): [figures(1.0)]})
    measured.missing[cell("rq", "poll")] = "answered 500"
    measured.unavailable["ray-serve"] = "no wheel for this Python"

    shown = text(measured)
    document = as_json(measured, argparse.Namespace(rounds=1, seconds=1.0, warm_up=0.0))

    assert "answered 500" in shown
    assert "no wheel for this Python" in shown
    assert document["missing"][0]["reason"] == "answered 500"
    assert document["unavailable"] == {"ray-serve": "no wheel for this Python"}
