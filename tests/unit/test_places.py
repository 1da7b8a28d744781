"""Places of owners: as many as each may have, whatever others have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.places import OwnersPlaces


def test_an_owner_gets_no_more_places_than_it_may_have() -> None:
    places = OwnersPlaces()

    assert [places.take("a", 2) for _ in range(4)] == [True, True, False, False]
    assert places.taken("a") == 2


def test_one_owner_takes_no_place_of_another() -> None:
    places = OwnersPlaces()
    places.take("a", 1)

    assert places.take("b", 1)


def test_a_place_that_was_given_back_can_be_taken_again() -> None:
    places = OwnersPlaces()
    places.take("a", 1)

    places.give_back("a")

    assert places.take("a", 1)


def test_an_owner_without_a_limit_gets_any_number_and_is_counted() -> None:
    places = OwnersPlaces()

    assert all(places.take("a", 0) for _ in range(100))
    assert places.taken("a") == 100


def test_a_place_that_nobody_took_cannot_be_given_back() -> None:
    with pytest.raises(KeyError):
        OwnersPlaces().give_back("a")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans())), st.integers(1, 3))
def test_taken_places_are_those_that_were_granted_and_not_given_back(steps: list[tuple[str, bool]], most: int) -> None:
    places, had = OwnersPlaces(), {"a": 0, "b": 0}

    for owner, taking in steps:
        if taking:
            had[owner] += places.take(owner, most)
        elif had[owner]:
            places.give_back(owner)
            had[owner] -= 1
        assert places.taken(owner) == had[owner] <= most
