"""`python -m worker`: what an operator does with the registry from the server's own shell."""

import getpass
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import root
from shared.registry import PRODUCTION, Registry
from shared.settings import Settings
from shared.storage import Storage, manifest_key
from tests.integration.registries import add_versions, move_to
from tests.integration.test_admission import MODEL, of_another_release
from tests.integration.train_runner import csv_of
from tests.models import registry_of
from tests.processes import RedisServer, clean_environment
from tests.unit.test_registration import SAMPLE, Harmful

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def registry(settings: Settings, redis_server: RedisServer) -> Registry:
    """A registry with three versions of home."""
    registry = registry_of(settings)
    add_versions(registry, 3)
    return registry


@pytest.fixture
def command(settings: Settings) -> Command:
    """Run a command."""

    def run(*words: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "worker", *words],
            env=clean_environment(settings),
            cwd=root(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines of output and errors."""
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_an_alias_is_moved_with_who_and_why(command: Command, registry: Registry) -> None:
    done = command("alias", "home", "canary", "2", "--why", "try it on a few")

    assert outcome(done) == (0, ["home@canary points to 2 (revision 1)"], [])
    (moved,) = registry.history("home", "canary")
    assert (moved["who"], moved["why"]) == (f"{getpass.getuser()}@{socket.gethostname()}", "try it on a few")


def test_an_alias_is_removed(command: Command, registry: Registry) -> None:
    registry.move("home", move_to(2, None, alias="canary"))

    assert outcome(command("unalias", "home", "canary")) == (0, ["home@canary is removed"], [])

    assert registry.model("home").aliases == {"production": 3}


def test_production_is_rolled_back(command: Command, registry: Registry) -> None:
    assert outcome(command("rollback", "home")) == (0, ["home@production points to 2 (revision 4)"], [])

    assert registry.alias("home", PRODUCTION).version == 2


def test_a_version_is_deleted(command: Command, registry: Registry) -> None:
    assert outcome(command("delete", "home", "1")) == (0, ["home@1 is removed"], [])

    assert [manifest.version for manifest in registry.model("home").versions] == [3, 2]


def test_a_whole_model_is_deleted(command: Command, registry: Registry) -> None:
    assert outcome(command("delete", "home")) == (0, ["home is removed with its versions 1 2 3"], [])

    assert registry.names() == []


def test_the_list_has_a_line_a_model(command: Command, registry: Registry) -> None:
    add_versions(registry, 1, model="garden")

    lines = ["garden: production -> 1; versions 1", "home: production -> 3; versions 3 2 1"]
    assert outcome(command("registry", "list")) == (0, lines, [])


def test_the_list_names_the_owner_of_a_model(command: Command, registry: Registry) -> None:
    registry.hand_over("home", "team-a")

    assert outcome(command("registry", "list")) == (0, ["home: production -> 3; versions 3 2 1; of team-a"], [])


def test_a_model_is_given_to_an_owner_and_taken_back(command: Command, registry: Registry) -> None:
    assert outcome(command("owner", "home", "team-a")) == (0, ["home belongs to team-a"], [])
    assert registry.owner("home") == (True, "team-a")

    assert outcome(command("owner", "home")) == (0, ["home belongs to nobody in particular"], [])
    assert registry.owner("home") == (True, None)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A few rows."""
    file = tmp_path / "rows.csv"
    file.write_bytes(csv_of(SAMPLE))
    return file


def test_what_was_warned_of_when_an_artifact_was_loaded_is_told(
    command: Command, registry: Registry, tmp_path: Path, sample: Path
) -> None:
    artifact = tmp_path / "old.skops"
    artifact.write_bytes(of_another_release(MODEL))

    code, lines, errors = outcome(command("register", "old", str(artifact), "--sample", str(sample)))

    assert (code, len(lines), len(errors)) == (0, 1, 1)
    assert lines[0].startswith("old@1 skops ")
    assert errors[0].startswith("foretell: It was fitted with scikit-learn 1.5.0")


def test_a_first_version_has_the_owner_that_is_said_and_later_ones_leave_it(
    command: Command, registry: Registry, tmp_path: Path, sample: Path
) -> None:
    artifact = tmp_path / "new.skops"
    artifact.write_bytes(MODEL)
    words = ("register", "new", str(artifact), "--sample", str(sample))

    first, again = command(*words, "--owner", "team-a"), command(*words)
    other = command(*words, "--owner", "team-b")

    assert (first.returncode, again.returncode) == (0, 0)
    assert registry.owner("new") == (True, "team-a")
    assert outcome(other) == (
        1,
        [],
        [
            "foretell: new is there already and belongs to team-a. Leave --owner out, or say first whose it is: "
            "python -m worker owner new team-b"
        ],
    )


def test_a_pickle_without_a_sample_is_not_loaded(command: Command, registry: Registry, tmp_path: Path) -> None:
    artifact, marker = tmp_path / "evil.pkl", tmp_path / "it-ran"
    artifact.write_bytes(pickle.dumps(Harmful(marker)))

    code, lines, errors = outcome(command("register", "bad", str(artifact)))

    assert (code, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("foretell: A sample is needed")
    assert not marker.exists()


def test_a_rebuild_says_what_it_added(command: Command, registry: Registry, redis_server: RedisServer) -> None:
    redis_server.client.flushall()

    first, second = command("registry", "rebuild"), command("registry", "rebuild")

    assert outcome(first) == (0, ["home: versions added 1 2 3; aliases added production"], [])
    assert outcome(second) == (0, ["nothing is missing"], [])


def test_a_rebuild_names_what_is_damaged_and_does_the_rest(
    command: Command, registry: Registry, redis_server: RedisServer, settings: Settings
) -> None:
    Storage.of(settings).put(manifest_key("home", 1), b"{")
    redis_server.client.flushall()

    code, lines, errors = outcome(command("registry", "rebuild"))

    assert (code, lines) == (1, ["home: versions added 2 3; aliases added production"])
    assert len(errors) == 1
    assert errors[0].startswith("foretell: models/home/1/manifest.json is no manifest of home@1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("alias", "home", "canary", "9", "--why", "x"), "no version or alias '9'", id="unknown-version"),
        pytest.param(("alias", "home", "7", "1", "--why", "x"), "'7' is no name of an alias", id="alias-of-digits"),
        pytest.param(("alias", "hom", "canary", "1", "--why", "x"), "There is no model 'hom'", id="unknown-model"),
        pytest.param(("delete", "home", "3"), "production points to it", id="in-use"),
        pytest.param(("delete", "home", "9"), "no version or alias '9'", id="unknown-deletion"),
        pytest.param(("unalias", "home", "production"), "production cannot be removed", id="production"),
        pytest.param(("unalias", "home", "canary"), "no version or alias 'canary'", id="unknown-alias"),
        pytest.param(("rollback", "hom"), "There is no model 'hom'", id="unknown-rollback"),
        pytest.param(("register", "home", "nowhere.skops"), "nowhere.skops", id="no-artifact"),
        pytest.param(("register", "x", "nowhere.skops", "--owner", "Team A"), "An owner has", id="no-owner"),
        pytest.param(("owner", "hom", "team-a"), "There is no model 'hom'", id="unknown-owned"),
        pytest.param(("owner", "home", "Team A"), "An owner has", id="no-owner-to-hand-over-to"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_standard_error(
    command: Command, registry: Registry, words: tuple[str, ...], message: str
) -> None:
    code, lines, errors = outcome(command(*words))

    assert (code, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("foretell: ")
    assert message in errors[0]
