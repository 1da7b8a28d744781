"""Warnings belong to the thread that caused them."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.warned import collected, quiet


def warn(text: str) -> None:
    warnings.warn(text, stacklevel=1)


def test_warnings_are_collected_even_if_they_are_repeated() -> None:
    with collected() as caught:
        for _ in range(3):
            warn("old\nnews")

    assert caught == ["old news"] * 3


def test_quiet_within_collected_drops_what_it_encloses_only() -> None:
    with collected() as caught:
        warn("before")
        with quiet():
            warn("within")
        warn("after")

    assert caught == ["before", "after"]


def test_each_thread_collects_its_own() -> None:
    both = threading.Barrier(2)

    def work(text: str) -> list[str]:
        with collected() as caught:
            for _ in range(20):
                both.wait(timeout=60)
                warn(text)
        return caught

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, ["one", "two"])

    assert (first, second) == (["one"] * 20, ["two"] * 20)


def test_a_quiet_thread_leaves_the_warnings_of_another() -> None:
    with quiet(), ThreadPoolExecutor(1) as pool:

        def work() -> list[str]:
            with collected() as caught:
                warn("mine")
            return caught

        assert pool.submit(work).result(timeout=60) == ["mine"]


def test_nothing_is_left_of_it_afterwards() -> None:
    before = (list(warnings.filters), warnings.showwarning)

    with collected(), quiet():
        pass

    assert (list(warnings.filters), warnings.showwarning) == before


def test_other_warnings_are_shown_as_ever() -> None:
    with quiet():
        warn("dropped")

    with pytest.warns(UserWarning, match="shown"):
        warn("shown")
