"""Where a rollback leads, what an alias may be called, and manifests of every age."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.aliases import back, check_alias
from shared.errors import InvalidRequest
from shared.manifest import Manifest
from tests.unit.estimators import ONE_NUMBER
from tests.unit.fakes import make_manifest

EVERY = frozenset(range(1, 10))


def moves(*targets: int | str) -> list[dict[str, Any]]:
    """A history, newest first, of moves to these versions; "<3" is a rollback to 3."""
    history: list[dict[str, Any]] = []
    before = None
    for target in targets:
        after = int(str(target).lstrip("<"))
        details = {"rollback": True} if str(target).startswith("<") else {}
        history.insert(0, {"from": before, "to": after, "details": details})
        before = after
    return history


@pytest.mark.parametrize(
    ("targets", "there", "expected"),
    [
        pytest.param((), EVERY, None, id="no-moves"),
        pytest.param((1,), EVERY, None, id="first-version"),
        pytest.param((1, 2), EVERY, 1, id="one-step"),
        pytest.param((1, 2, 3, "<2"), EVERY, 1, id="second-step"),
        pytest.param((1, 2, 3, "<2", "<1"), EVERY, None, id="no-third-step"),
        pytest.param((1, 2, 3, "<2", 4), EVERY, 2, id="after-a-new-move"),
        pytest.param((1, 2, 1, 3, "<1"), EVERY, 2, id="a-version-twice"),
        pytest.param((1, 2, 3), frozenset({1, 3}), 1, id="deleted-between"),
        pytest.param((1, 2, 3), frozenset({3}), None, id="all-deleted"),
        pytest.param((1, 2, 3, "<1"), EVERY, None, id="over-a-deleted-one"),
        pytest.param((2, 1, 2), frozenset({2}), None, id="only-itself-is-left"),
    ],
)
def test_a_rollback_leads_to_the_version_before(
    targets: tuple[int | str, ...], there: frozenset[int], expected: int | None
) -> None:
    assert back(moves(*targets), there) == expected


def test_the_oldest_move_that_is_kept_still_says_where_it_came_from() -> None:
    assert back(moves(1, 2, 3)[:1], EVERY) == 2


def test_an_alias_that_was_removed_begins_anew() -> None:
    removed: dict[str, Any] = {"from": 2, "to": None, "details": {}}
    anew: dict[str, Any] = {"from": None, "to": 3, "details": {}}

    assert back([anew, removed, *moves(1, 2)], EVERY) is None
    assert back([{"from": 3, "to": 4, "details": {}}, anew, removed, *moves(1, 2)], EVERY) == 3


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_rollbacks_undo_the_moves_in_reverse_and_come_to_an_end(versions: list[int]) -> None:
    different = [version for version, before in zip(versions, [0, *versions], strict=False) if version != before]
    path: list[int | str] = [*different]

    seen = []
    while (target := back(moves(*path), EVERY)) is not None:
        seen.append(target)
        path.append(f"<{target}")

    assert seen == different[-2::-1]


@pytest.mark.parametrize("alias", ["production", "canary-2", "v1.0", "7a", "a" * 64])
def test_a_word_can_name_an_alias(alias: str) -> None:
    check_alias(alias)


@pytest.mark.parametrize("alias", ["", "7", "007", "a b", "-a", "a@b", "a/b", "a" * 65, "ü", "a\n"])
def test_what_could_be_mistaken_names_no_alias(alias: str) -> None:
    with pytest.raises(InvalidRequest, match="is no name of an alias"):
        check_alias(alias)


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = make_manifest(ONE_NUMBER, version=3)

    assert Manifest.from_json(orjson.dumps(manifest.to_dict())) == manifest


def test_a_manifest_of_an_earlier_release_has_the_defaults_of_what_it_lacks() -> None:
    written = make_manifest(ONE_NUMBER).to_dict()
    fields = ("model", "version", "format", "sha256", "size_bytes", "signature", "estimator", "libraries", "created_at")

    manifest = Manifest.from_json(orjson.dumps({name: written[name] for name in fields}))

    assert (manifest.artifact, manifest.parent, manifest.source_job, manifest.metrics) == ("artifact", None, None, {})


def test_a_manifest_of_a_later_release_is_read_without_what_is_not_known() -> None:
    manifest = make_manifest(ONE_NUMBER)

    assert Manifest.from_json(orjson.dumps(manifest.to_dict() | {"colour": "red"})) == manifest
