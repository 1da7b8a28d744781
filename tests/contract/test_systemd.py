"""deploy/systemd: units that systemd understands, that start what there is, and that may do little else."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.__main__ import COMMANDS
from deploy.commands import api_stop_seconds, root
from shared.queue import QUEUES
from shared.settings import PREFIX, load_settings

FOLDER = root() / "deploy" / "systemd"
PYTHON = "/opt/foretell/app/.venv/bin/python"
COMMON = "foretell-.service.d/process.conf"
SERVICES = ("foretell-api.service", "foretell-scheduler.service", "foretell-worker@.service")
# What a unit may do at most, from 0 (nothing) to 10, tenths: `systemd-analyze security`.
MOST_EXPOSURE = 15

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze: apt-get install systemd"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are installed, but with a Python that is there."""
    folder = tmp_path / "units"
    shutil.copytree(FOLDER, folder)
    for path in folder.glob("*.service"):
        path.write_text(path.read_text().replace(PYTHON, sys.executable))
    return folder


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, with the units of a folder beside those of the machine."""
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def complaints(folder: Path, unit: str) -> list[str]:
    """What systemd says of a unit, and of those that it starts, by lines that name ours."""
    said = analyze(folder, "verify", "--man=no", unit).stderr
    return [line for line in said.splitlines() if "foretell" in line]


def values(name: str, key: str) -> list[str]:
    """What a unit gives for a key, in order."""
    lines = (FOLDER / name).read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.partition("=")[0] == key]


@needs_systemd
@pytest.mark.parametrize("unit", ["foretell.target", "foretell-api.service", "foretell-worker@online.service"])
def test_systemd_understands_every_line(installed: Path, unit: str) -> None:
    assert complaints(installed, unit) == []


@needs_systemd
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        pytest.param(COMMON, "KillMode=mixed", "KillMode=mixt", id="value"),
        pytest.param(COMMON, "ProtectClock=", "ProtectClocks=", id="key"),
        pytest.param("foretell-worker@.service", "OOMPolicy=continue", "OOMPolicy=go-on", id="template"),
    ],
)
def test_a_mistake_in_a_unit_is_found(installed: Path, name: str, right: str, wrong: str) -> None:
    path = installed / name
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))

    assert complaints(installed, "foretell.target") != []


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_may_do_little_beside_its_work(installed: Path, name: str) -> None:
    done = analyze(installed, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(installed / name))

    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


@needs_systemd
def test_without_what_they_have_in_common_they_could_do_much(installed: Path) -> None:
    (installed / COMMON).unlink()

    path = str(installed / "foretell-api.service")
    done = analyze(installed, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", path)

    assert done.returncode != 0


def test_the_target_starts_every_role_and_its_end_ends_them() -> None:
    wanted = [unit for line in values("foretell.target", "Wants") for unit in line.split()]

    workers = {f"foretell-worker@{queue}.service" for queue in QUEUES}
    assert sorted(wanted) == sorted({"foretell-api.service", "foretell-scheduler.service"} | workers)
    assert [values(name, "PartOf") for name in SERVICES] == 3 * [["foretell.target"]]


def test_every_command_is_one_that_foretell_knows() -> None:
    commands = {name: values(name, "ExecStart") for name in SERVICES}

    assert commands == {
        "foretell-api.service": [f"{PYTHON} -m deploy api"],
        "foretell-scheduler.service": [f"{PYTHON} -m deploy scheduler"],
        "foretell-worker@.service": [f"{PYTHON} -m deploy worker %i"],
    }
    assert {"api", "scheduler", "worker"} <= set(COMMANDS)


def test_processes_have_the_time_that_an_orderly_stop_takes_and_stop_in_their_own_order() -> None:
    settings = load_settings({})
    takes = dict(zip(SERVICES, (api_stop_seconds(settings), 10, settings.drain_seconds + 30), strict=True))

    assert all(float(values(name, "TimeoutStopSec")[0]) >= takes[name] + 5 for name in SERVICES)
    assert values(COMMON, "KillMode") == ["mixed"]
    assert values(COMMON, "Restart") == ["always"]


def test_every_variable_is_a_setting_that_foretell_accepts() -> None:
    example = (FOLDER / "settings.env.example").read_text()
    given = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    fixed = dict(pair.split("=", 1) for line in values(COMMON, "Environment") for pair in line.split())
    settings = load_settings({name: value for name, value in (fixed | given).items() if name.startswith(PREFIX)})

    assert settings.is_local
    assert settings.data_dir == Path("/var/lib/foretell")
    assert {name for name in given if not name.startswith(PREFIX)} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    }
    assert [given[name] for name in given if "KEY" in name] == ["", ""]


def test_what_is_kept_is_in_the_folder_that_systemd_makes() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(FOLDER / COMMON)

    assert unit["Service"]["StateDirectory"] == "foretell"
    assert unit["Service"]["User"] in (FOLDER / "sysusers.conf").read_text()


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="there is no systemctl: apt-get install systemd")
@pytest.mark.parametrize("unit", ["foretell.target", "foretell-worker@batch.service", "foretell-api.service"])
def test_a_unit_can_be_enabled_by_itself(tmp_path: Path, unit: str) -> None:
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(FOLDER, units)

    done = subprocess.run(
        ["systemctl", "--root", str(tmp_path), "enable", unit], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (units / "multi-user.target.wants" / unit).is_symlink()
