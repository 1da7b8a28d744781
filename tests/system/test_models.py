"""`GET /models`, `/models/<name>` and `/models/<name>/versions/<version>`."""

import re

import pytest

from deploy.commands import root
from tests.processes import Http

README = (root() / "examples" / "README.md").read_text()


def documented_columns(model: str) -> list[str]:
    """The columns of a demo model in the order of the table in the README."""
    section = README.partition(f"## {model}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_list_holds_what_each_model_says_of_itself(http: Http) -> None:
    models = {model["name"]: model for model in http("GET", "/models").json["models"]}

    assert {"linear", "support", "recommend", "home"} <= set(models)
    for name in ("linear", "home"):
        model = http("GET", f"/models/{name}").json
        assert {key: model[key] for key in model if key not in ("loaded", "scheduled")} == models[name]


def test_a_version_by_itself_is_the_one_of_its_model(http: Http) -> None:
    model = http("GET", "/models/linear").json

    version = http("GET", "/models/linear/versions/1").json

    assert version == {"name": "linear", "profile": {}, **model["versions"][-1]}


@pytest.mark.parametrize("name", ["linear", "support", "home"])
def test_the_signature_has_the_columns_of_the_readme(http: Http, name: str) -> None:
    signature = http("GET", f"/models/{name}").json["versions"][0]["signature"]

    assert [feature["name"] for feature in signature["features"]] == documented_columns(name)


def test_the_signature_says_which_columns_may_be_null(http: Http) -> None:
    features = http("GET", "/models/home").json["versions"][0]["signature"]["features"]

    assert [feature["name"] for feature in features if not feature["nullable"]] == ["heating_mode"]


def test_a_version_says_what_it_is_made_of(http: Http) -> None:
    model = http("GET", "/models/linear").json

    (version,) = model["versions"]
    assert model["aliases"] == {"production": 1}
    assert (version["version"], version["format"]) == (1, "skops")
    assert re.fullmatch(r"[0-9a-f]{64}", version["sha256"])
    assert version["estimator"].endswith("LinearRegression")
    assert "scikit-learn" in version["libraries"]


@pytest.mark.parametrize("path", ["/models/lineal", "/models/linear/versions/99", "/models/lineal/versions/1"])
def test_an_unknown_model_or_version_is_not_found(http: Http, path: str) -> None:
    answer = http("GET", path)

    assert (answer.status, answer.json["code"]) == (404, "model_not_found")
