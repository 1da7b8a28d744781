"""`foretell`, as people and scripts use it."""

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from foretell import access

from examples.small_network import network
from tests.client.command import Command
from tests.client.test_files import BAD_ROWS, FILE, ROWS
from tests.processes import Http, free_port
from tests.system.rows import LINEAR_ROWS
from tests.system.service import Barrier, Service
from tests.system.trainings import labelled, line, own_name
from tests.wait import until

GOOD = b"id,x1,x2,x3\na,0.06,0.02,0.04\nb,-0.03,0.01,0.0\n"
SCORED = [215.31847389793, 136.66385346866]


@pytest.fixture
def foretell(service: Service) -> Command:
    return Command(service.address)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(GOOD)
    return path


def test_a_file_is_predicted_into_a_file(foretell: Command, rows: Path, tmp_path: Path) -> None:
    made = foretell("predict", rows, "-m", "linear", "-k", "id", "-o", tmp_path / "out.parquet")

    assert (made.code, made.out) == (0, b"")
    assert "2 rows are predicted by linear@1" in made.err
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["a", "b"]


def test_standard_input_becomes_standard_output(foretell: Command) -> None:
    made = foretell("predict", "-", "-m", "linear", "-k", "id", stdin=GOOD)

    header, *lines = made.text.splitlines()
    assert (made.code, header) == (0, "id,prediction")
    assert [float(one.split(",")[1]) for one in lines] == pytest.approx(SCORED)


def test_failed_rows_have_an_exit_code_and_a_file_of_their_own(foretell: Command, tmp_path: Path) -> None:
    path, errors = tmp_path / "rows.csv", tmp_path / "errors.ndjson"
    path.write_bytes(FILE)

    made = foretell("predict", path, "-m", "linear", "-o", tmp_path / "out.ndjson", "--errors", errors, "--json")

    assert made.code == 5
    assert made.json["counts"]["failed"] == len(BAD_ROWS)
    assert [json.loads(one)["row"] for one in errors.read_text().splitlines()] == list(BAD_ROWS)
    assert len((tmp_path / "out.ndjson").read_bytes().splitlines()) == ROWS - len(BAD_ROWS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "nowhere.csv", "-m", "linear"], 7, "No such file or directory: nowhere.csv"),
        (["predict", "-", "-m", "nobody"], 3, "There is no model 'nobody'"),
        (["predict", "-", "-m", "linear", "--json"], 2, "name a file for it"),
        (["predict", "-", "-m", "linear", "-o", "out.txt"], 7, "says no format"),
        (["predict", "-"], 2, "Missing option"),
        (["job", "show", "nobody"], 3, "There is no job nobody"),
        (["jobs", "--watch", "--json"], 2, "--watch is for people"),
        (["models", "nobody"], 3, "nobody"),
        (["promote", "linear", "99"], 3, "99"),
        (["rollback", "linear"], 3, "No earlier version of linear"),
        (["schedule", "show", "linear"], 3, "no schedule"),
        (["schedule", "set", "linear", "--target", "y", "--cron", "* * * * *"], 2, "in one way"),
        (["keys", "create", "k", "--scope", "jobs:read", "--expires", "soon"], 2, "write it like 90d"),
        (["keys", "create", "k", "--scope", "jobs:read", "--limit", "uploads=many"], 2, "waiting_jobs=1000"),
        (["retrain", "linear", "-", "--target", "y", "--recipe", "{"], 2, "neither JSON nor @"),
        (["--url", "nonsense", "jobs"], 2, "No such option"),
        (["jobs", "--url", "nonsense"], 2, "is no address of a service"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_a_sentence_and_an_exit_code(
    foretell: Command, arguments: list[str], code: int, said: str
) -> None:
    made = foretell(*arguments, stdin=GOOD)

    assert (made.code, made.out) == (code, b"")
    assert said in made.err


def test_a_mistake_is_a_document_for_programs(foretell: Command) -> None:
    made = foretell("job", "show", "nobody", "--json")

    assert made.code == 3
    assert made.json["error"]["code"] == "job_not_found"
    assert made.json["error"]["request_id"]


def test_a_service_that_is_away_is_said_so_and_asked_again(foretell: Command) -> None:
    made = foretell("models", "--retries", "1", url=f"http://127.0.0.1:{free_port()}")

    assert made.code == 4
    assert "Trying again in" in made.err
    assert "(tried 2 times" in made.err


def test_a_job_that_fails_has_an_exit_code(foretell: Command) -> None:
    made = foretell("predict", "-", "-m", "linear", stdin=b"x1,x2,x3\n?,?,?\n")

    assert (made.code, made.out) == (1, b"")
    assert "failed" in made.err


def test_what_is_not_waited_for_goes_on_and_can_be_collected(foretell: Command, rows: Path, tmp_path: Path) -> None:
    job_id = foretell("predict", rows, "-m", "linear", "--detach").text.strip()

    waited = foretell("job", "wait", job_id)
    result = foretell("job", "result", job_id)
    foretell("job", "manifest", job_id, "-o", tmp_path / "manifest.json")

    assert (waited.code, result.code) == (0, 0)
    assert "succeeded" in waited.text
    assert result.text.startswith("prediction\n")
    assert json.loads((tmp_path / "manifest.json").read_text())["job_id"] == job_id
    assert foretell("job", "errors", job_id).out == b""


def test_a_job_that_is_not_done_in_time_has_an_exit_code(foretell: Command, barrier: Barrier) -> None:
    job_id = barrier.hold()["id"]

    waited = foretell("job", "wait", job_id, "--timeout", "0.2")
    cancelled = foretell("job", "cancel", job_id, "--json")

    assert waited.code == 6
    assert "It goes on" in waited.err
    assert cancelled.json[0]["cancel_requested"] is True
    barrier.open()
    assert foretell("job", "wait", job_id).code == 1
    assert foretell("job", "delete", job_id).code == 0
    assert foretell("job", "show", job_id).code == 3


def test_jobs_are_a_table_for_people_and_a_document_for_programs(foretell: Command, http: Http) -> None:
    job_id = http.done(http.submit("moody", [[1.0], [13.0]])["id"])["id"]

    listed = foretell("jobs", "--model", "moody", "--limit", "1")
    retried = foretell("job", "retry", job_id, "--only", "all")

    assert listed.text.splitlines()[0].split("\t")[:4] == ["job", "kind", "model", "status"]
    assert listed.text.splitlines()[1].split("\t")[:6] == [
        job_id,
        "predict",
        "moody@1",
        "partially_succeeded",
        "2",
        "1",
    ]
    assert foretell("job", "show", retried.text.strip(), "--json").json["retry_of"] == job_id
    assert foretell("jobs", "--model", "moody", "--limit", "1", "--json").json[0]["id"] == retried.text.strip()


def test_a_model_is_pushed_promoted_and_rolled_back(foretell: Command, tmp_path: Path) -> None:
    graph, name = tmp_path / "network.onnx", own_name("network")
    graph.write_bytes(network())

    pushed = [foretell("push", name, graph, "--description", "small") for _ in range(2)]

    assert [one.code for one in pushed] == [0, 0]
    assert pushed[0].text.startswith(f"{name}@1 onnx")
    assert foretell("promote", name, "2", "--why", "newer").text == f"{name}@production is version 2 now.\n"
    assert foretell("rollback", name).text == f"{name}@production is version 1 now.\n"
    assert "production" in foretell("models", name).text.splitlines()[2]
    assert name in foretell("models").text


def test_a_model_is_trained_again_and_on_a_schedule(foretell: Command, service: Service, tmp_path: Path) -> None:
    name, path = line(service), tmp_path / "labelled.csv"
    path.write_bytes(labelled(200))

    trained = foretell("retrain", name, path, "--target", "y", "--gate", '{"metric": "mae"}')
    kept = foretell("schedule", "set", name, "--file", path, "--target", "y", "--cron", "0 3 1 1 *", "--json")

    assert trained.code == 0, trained.err
    assert trained.text.startswith(f"{name}@2 is in production: mae")
    assert (kept.code, kept.json["cron"]) == (0, "0 3 1 1 *")
    assert "0 3 1 1 *" in foretell("schedule", "show", name).text
    assert foretell("schedule", "remove", name).code == 0


def test_what_others_wrote_cannot_steer_a_terminal(foretell: Command, http: Http, tmp_path: Path) -> None:
    graph, name, evil = tmp_path / "network.onnx", own_name("network"), "\x1b]0;evil\x07\ttab\nline"
    graph.write_bytes(network())
    job = http.submit("linear", LINEAR_ROWS, metadata={"note": "\x9b31m"})

    foretell("push", name, graph, "--description", evil)
    shown = [foretell("models", name).text, foretell("job", "show", job["id"]).text, foretell("models", evil).err]

    assert len(shown[0].splitlines()) == 2
    assert shown[0].splitlines()[1].count("\t") == shown[0].splitlines()[0].count("\t")
    assert "evil" in shown[2]
    assert all(one.isprintable() for text in shown for one in text if one not in "\n\t")


def test_queues_and_workers_are_seen(foretell: Command, barrier: Barrier) -> None:
    for _ in range(2):
        barrier.hold()
    barrier.submit()

    seen = foretell("top", "--once", "--json").json
    shown = foretell("top", "--once").text

    online = next(queue for queue in seen["queues"] if queue["name"] == "online")
    assert (online["waiting"], online["running"]) == (1, 2)
    assert online["scale"]["processes"] >= 2
    assert 1 <= online["scale"]["wanted_workers"] <= online["scale"]["wanted_processes"]
    assert seen["readiness"]["ready"] is True
    work = [unit for worker in seen["workers"] if "online" in worker["queues"] for unit in worker["work"]]
    assert [(unit["kind"], unit["model"], unit["jobs"]) for unit in work] == [("predict", "gate@1", 1)] * 2
    assert "online\t1\t2\t" in shown
    assert "predict gate@1, predict gate@1" in shown
    assert "workers_online\tready" in shown


def test_no_failed_rows_at_all_can_be_wanted(foretell: Command, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(GOOD + b"c,?,0,0\n")

    made = foretell("predict", path, "-m", "linear", "--max-failed-rows", "0", "-o", tmp_path / "out.csv")

    assert made.code == 1
    assert not (tmp_path / "out.csv").exists()


def test_what_is_no_key_is_not_kept_and_a_wrong_one_can_be_replaced(foretell: Command) -> None:
    refused = foretell("config", "set", "key", "two words")
    access.write_configuration({"key": "two words", "url": foretell.url})

    mended = foretell("config", "unset", "key")

    assert (refused.code, mended.code) == (2, 0)
    assert access.read_configuration() == {"url": foretell.url}


def test_address_and_key_are_kept_for_the_user_alone(foretell: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "ft_0123456789ab_" + "x" * 43
    assert foretell("config", "set", "url", "http://127.0.0.1:9/").code == 0
    assert foretell("config", "set", "key", stdin=f"{secret}\n".encode()).code == 0
    path = access.configuration_file()

    shown = foretell("config", "show", "--url", "http://127.0.0.1:9")

    assert path.stat().st_mode & 0o077 == 0
    assert secret not in shown.text
    assert "ft_0123456789ab..." in shown.text
    assert access.Access.of("http://127.0.0.1:9").key == secret
    assert access.Access.of("http://another:8000").key is None  # it was not kept for that one
    monkeypatch.setenv("FORETELL_KEY", "ft_other")
    assert access.Access.of("http://another:8000").key == "ft_other"
    assert foretell("config", "unset", "key").code == 0
    assert access.read_configuration() == {"url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("written", ["url = 1", "other = 'x'", "url = "], ids=["number", "unknown", "no TOML"])
def test_a_configuration_that_is_none_is_said_with_its_place(foretell: Command, written: str) -> None:
    path = access.configuration_file()
    path.write_text(written)

    made = foretell("models")

    assert made.code == 2
    assert str(path) in made.err


def test_the_end_of_a_pipe_is_no_error(foretell: Command, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"".join(FILE.splitlines(keepends=True)[:1] + FILE.splitlines(keepends=True)[10:] * 5))

    process = foretell.start("predict", path, "-m", "linear", "--include", "all")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()

    assert process.wait(60) == 0
    assert process.stderr is not None
    assert first == b"id,x1,x2,x3,prediction\n"
    assert process.stderr.read() == b""


def test_ctrl_c_says_that_the_job_goes_on(foretell: Command, barrier: Barrier, http: Http) -> None:
    job_id = barrier.hold()["id"]
    process = foretell.start("job", "wait", job_id)
    until(lambda: http("GET", "/limits").json["used"]["waiters"], 30, "it waits")

    process.send_signal(signal.SIGINT)

    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(foretell: Command, shell: str) -> None:
    made = foretell("completion", shell)

    assert made.code == 0
    assert "_FORETELL_COMPLETE" in made.text


def test_names_of_models_are_completed(foretell: Command) -> None:
    asked = {"_FORETELL_COMPLETE": "bash_complete", "COMP_WORDS": "foretell models loo", "COMP_CWORD": "2"}

    made, _ = foretell.start(environment=asked).communicate(timeout=60)

    assert made.decode().splitlines() == ["plain,lookup"]


def test_rows_that_were_submitted_elsewhere_are_seen(foretell: Command, http: Http) -> None:
    job: Any = http.done(http.submit("linear", LINEAR_ROWS)["id"])

    result = foretell("job", "result", job["id"])

    assert json.loads(result.out)["predictions"] == pytest.approx(SCORED)
