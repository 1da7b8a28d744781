"""How the embedded server is started."""

import pytest

from deploy.commands import ALLOCATOR, allocator

GIVEN = "glibc.malloc.arena_max=1"


@pytest.mark.parametrize(
    ("library", "given", "told"),
    [
        ("glibc 2.36", "", ALLOCATOR),
        ("glibc 2.30", GIVEN, f"{ALLOCATOR}:{GIVEN}"),
        ("glibc 2.28", "", ""),
        ("glibc 2.28", GIVEN, GIVEN),
        ("", "", ""),
    ],
)
def test_an_allocator_that_can_keep_more_at_hand_is_told_to_and_the_user_has_the_last_word(
    library: str, given: str, told: str
) -> None:
    assert allocator(library, given) == told
