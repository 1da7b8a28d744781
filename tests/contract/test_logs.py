"""Logs hold no payloads and no secrets, whichever way they are written."""

import subprocess
import sys

import pytest
import structlog

from api import readiness
from deploy.commands import root
from tests.conftest import CaptureLogs
from tests.processes import clean_environment

CRASH = """
import structlog
from shared.logs import configure_logs
from shared.settings import Settings

def handle(rows):
    try:
        raise RuntimeError("crashed")
    except RuntimeError as error:
        structlog.get_logger().error("request.crashed", exc_info=error)

configure_logs(Settings(log_format="{format}"), "api")
handle(["hunter" + "2"])
"""


@pytest.mark.parametrize("format", ["human", "json"])
def test_a_crash_is_logged_with_its_traceback_and_without_the_data_it_was_about(format: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CRASH.format(format=format)],
        cwd=root(),
        env=clean_environment(),
        capture_output=True,
        check=True,
        text=True,
    )

    assert "RuntimeError" in answer.stderr
    assert "hunter2" not in answer.stderr


def test_a_test_sees_what_a_logger_logs_that_has_logged_before(capture_logs: CaptureLogs) -> None:
    before = structlog.get_config()
    structlog.configure(cache_logger_on_first_use=True)
    readiness.log.info("readiness.first")
    structlog.configure(**before | {"processors": list(before["processors"])})

    with capture_logs() as logged:
        readiness.log.info("readiness.second")

    assert [line["event"] for line in logged] == ["readiness.second"]
