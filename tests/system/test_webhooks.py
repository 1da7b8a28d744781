"""Webhooks of a service as a user starts it, through HTTP alone, to a receiver on this machine."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.integration.receivers import Receiver
from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Service, send_file
from tests.system.trainings import labelled, line


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def secret(http: Http) -> str:
    """That of the shared service."""
    made: str = http("POST", "/webhooks/secret").json["secret"]
    return made


def events(receiver: Receiver, secret: str, number: int) -> dict[str, Any]:
    """So many events by the id of their job, each with a signature that holds."""
    return {(event := got.verified(secret))["data"]["id"]: event for got in receiver.wait(number, 60)}


def test_the_ends_of_jobs_of_every_kind_are_told(start: Callable[..., Service], receiver: Receiver) -> None:
    service = start(webhook_networks="127.0.0.1")
    http, webhook = service.http, {"url": receiver.url()}
    secret = http("POST", "/webhooks/secret").json["secret"]
    model = line(service)

    rows = http.submit("linear", [LINEAR], webhook=webhook)["id"]
    file = send_file(http, b"text\nknown\nunknown\n", model="lookup", webhook=receiver.url()).json["id"]
    training = http(
        "POST", f"/models/{model}/retrain?target=y&webhook={receiver.url()}", raw=labelled(200), Content_Type="text/csv"
    ).json["id"]

    told = events(receiver, secret, 3)
    for job_id in (rows, file, training):
        job = http.done(job_id)
        event = told.pop(job_id)
        assert event["type"] == f"job.{job['status']}"
        assert event["data"]["kind"] == job["kind"]
        assert event["data"]["counts"] == job["counts"]
        assert http("GET", event["data"]["links"]["result"]).status == 200
        delivery = http("GET", job["links"]["delivery"])
        assert (delivery.status, delivery.json["payload"]) == (200, event)
    assert told == {}


class TestRefusals:
    """What is refused when a job is submitted, by a service that allows no network beside the public ones."""

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            pytest.param("https://127.0.0.1/", "forbidden_address", id="loopback"),
            pytest.param("https://169.254.169.254/latest/meta-data/", "forbidden_address", id="metadata"),
            pytest.param("http://example.com/", "plain_http", id="http"),
            pytest.param("https://user:password@example.com/", "credentials_in_url", id="password"),
            pytest.param("https://example.com:0/", "bad_port", id="port-0"),
            pytest.param("redis://example.com/", "bad_scheme", id="another-protocol"),
        ],
    )
    @pytest.mark.parametrize("way", ["rows", "validate", "file", "training", "schedule"])
    def test_a_url_that_can_never_be_called(
        self, http: Http, service: Service, secret: str, way: str, url: str, code: str
    ) -> None:
        body: dict[str, Any] = {"model": "linear", "instances": [LINEAR], "webhook": {"url": url}}
        training = {"target": "y", "webhook": {"url": url}}
        match way:
            case "rows":
                answer = http("POST", "/jobs", body)
            case "validate":
                answer = http("POST", "/jobs?validate_only=true", body)
            case "file":
                answer = send_file(http, b"text\nknown\n", model="lookup", webhook=url)
            case _:
                data = labelled(50)
                file_id = http("POST", "/files", raw=data, Content_Type="text/csv").json["id"]
                training["input"] = {"file_id": file_id}
                path = f"/models/{line(service)}"
                if way == "training":
                    answer = http("POST", f"{path}/retrain", training)
                else:
                    answer = http("PUT", f"{path}/schedule", training | {"cron": "0 3 1 1 *"})

        assert answer.status == 422, answer.body
        assert [(fault["pointer"], fault["code"]) for fault in answer.json["errors"]] == [("/webhook/url", code)]
        assert "password" not in answer.json["detail"].replace("no password", "")

    @pytest.mark.parametrize(
        ("webhook", "pointer"),
        [
            pytest.param("https://example.com/", "/webhook", id="text"),
            pytest.param({}, "/webhook/url", id="nothing"),
            pytest.param({"url": 3}, "/webhook/url", id="number"),
            pytest.param({"url": "https://example.com/", "secret": "x"}, "/webhook/secret", id="more"),
            pytest.param({"url": "https://example.com/" + "x" * 2000}, "/webhook/url", id="long"),
        ],
    )
    def test_a_webhook_that_is_none(self, http: Http, webhook: Any, pointer: str) -> None:
        answer = http("POST", "/jobs", {"model": "linear", "instances": [LINEAR], "webhook": webhook})

        assert answer.status == 422
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]

    def test_a_receiver_to_be_tried(self, http: Http, secret: str) -> None:
        answer = http("POST", "/webhooks/test", {"url": "https://10.0.0.1/"})

        assert answer.status == 422
        assert [(fault["pointer"], fault["code"]) for fault in answer.json["errors"]] == [("/url", "forbidden_address")]

    def test_an_unknown_parameter_of_the_list(self, http: Http) -> None:
        assert http("GET", "/webhooks/deliveries?colour=red").json["code"] == "unknown_parameter"


def test_the_secret_is_shown_once(http: Http) -> None:
    made = http("POST", "/webhooks/secret")

    read = [http("GET", path) for path in ("/webhooks", "/webhooks/deliveries")]

    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    Webhook(made.json["secret"])
    assert made.json["secret"].startswith("whsec_")
    assert read[0].json["secret"]["created_at"] == made.json["created_at"]
    assert all(made.json["secret"] not in answer.body.decode() for answer in read)
