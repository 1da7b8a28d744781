"""Every error raised on purpose is drawn in the tree, has a code of its own, and a status where HTTP meets it."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

import shared.errors
from api.errors import HTTP_CODES, RETRY_AFTER_SECONDS, STATUS
from shared.errors import ServiceError

ROOT = Path(__file__).parents[2]
# What an HTTP request can reach. The rest of `shared` runs before a process serves, or in a worker.
BEHIND_HTTP = [*sorted((ROOT / "api").glob("*.py"))] + [
    ROOT / "shared" / f"{name}.py"
    for name in (
        "aliases",
        "catalogue",
        "connection",
        "heartbeat",
        "inputs",
        "registry",
        "signature",
        "storage",
        "store",
        "receiver",
        "webhooks",
    )
]
# Raised before a process serves: create_app, Settings, check_server; and by commands, which serve nobody.
AT_THE_START = {"BadSetting", "BackupDamaged"}


def descendants(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in error.__subclasses__():
        if child.__module__ == "shared.errors":
            yield child
            yield from descendants(child)


ERRORS: list[type[ServiceError]] = [ServiceError, *descendants(ServiceError)]
EVERY_ERROR = [pytest.param(error, id=error.__name__) for error in ERRORS]


def drawn() -> list[tuple[str, str]]:
    """The tree in the docstring as pairs of parent and child."""
    parents = {-1: "Exception"}
    pairs = []
    for line in (shared.errors.__doc__ or "").splitlines()[2:]:
        if found := re.match(r"([│ ]*(?:[├└]── )?)(\w+)", line):
            depth = len(found[1]) // 4
            parents[depth] = found[2]
            pairs.append((parents[depth - 1], found[2]))
    return pairs


def raised(path: Path) -> set[str]:
    """The names of the exceptions that a module raises or returns."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        value = node.exc if isinstance(node, ast.Raise) else node.value if isinstance(node, ast.Return) else None
        called = value.func if isinstance(value, ast.Call) else value
        if isinstance(called, ast.Name):
            names.add(called.id)
    return names


def test_the_tree_is_drawn_as_it_is() -> None:
    real = {(error.__mro__[1].__name__, error.__name__) for error in ERRORS}

    assert set(drawn()) == real
    assert len(drawn()) == len(real)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in ERRORS]

    assert sorted(set(codes)) == sorted(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_no_code_of_http_itself_is_one_of_ours() -> None:
    assert {error.code for error in ERRORS}.isdisjoint(HTTP_CODES.values())


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_an_error_without_a_message_says_the_first_line_of_its_docstring(error: type[ServiceError]) -> None:
    first_line = (error.__doc__ or "").splitlines()[0]

    assert error().message == str(error()) == first_line
    assert first_line.endswith(".")


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_an_error_says_what_it_is_given_to_say(error: type[ServiceError]) -> None:
    assert error("Row 3 is wrong.").message == "Row 3 is wrong."


@pytest.mark.parametrize("path", BEHIND_HTTP, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_whatever_a_request_can_meet_has_a_status(path: Path) -> None:
    ours = {error.__name__ for error in ERRORS}

    without = (raised(path) & ours) - {error.__name__ for error in STATUS} - AT_THE_START

    assert without == set()


def test_every_status_is_one_of_an_error() -> None:
    assert set(STATUS.values()) <= {status.value for status in HTTPStatus if status >= 400}


def test_exactly_what_may_succeed_later_is_called_retryable() -> None:
    later = {error for error, status in STATUS.items() if status in (429, 503, 507)}

    assert {error for error in ERRORS if error.retryable} == later


def test_every_error_that_may_succeed_later_says_when_within_two_minutes() -> None:
    unavailable = {error for error, status in STATUS.items() if status in (503, 507)}

    assert set(RETRY_AFTER_SECONDS) == unavailable
    assert all(1 <= seconds <= 120 for seconds in RETRY_AFTER_SECONDS.values())
