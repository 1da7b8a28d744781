"""A block that may take so much memory, and no more."""

import resource
import threading

import numpy as np
import pytest

from worker.formats.memory import at_most, lacks_memory

MIB = 2**20


def test_more_than_is_allowed_is_refused_and_less_is_not() -> None:
    with at_most(256 * MIB):
        assert len(np.empty(64 * MIB, np.uint8)) == 64 * MIB
        with pytest.raises(MemoryError):
            np.empty(512 * MIB, np.uint8)


def test_another_thread_of_the_process_is_limited_too() -> None:
    refused = threading.Event()

    def ask() -> None:
        try:
            np.empty(512 * MIB, np.uint8)
        except MemoryError:
            refused.set()

    with at_most(256 * MIB):
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()

    assert refused.is_set()


@pytest.mark.parametrize("error", [None, MemoryError, KeyboardInterrupt], ids=["done", "refused", "interrupted"])
def test_the_limit_ends_with_the_block(error: type[BaseException] | None) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)

    try:
        with at_most(256 * MIB):
            assert resource.getrlimit(resource.RLIMIT_AS) != before
            if error is not None:
                raise error
    except (MemoryError, KeyboardInterrupt):
        pass

    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_limit_within_a_limit_allows_no_more_than_that() -> None:
    with at_most(256 * MIB):
        outer = resource.getrlimit(resource.RLIMIT_AS)
        with at_most(1024 * MIB):
            assert resource.getrlimit(resource.RLIMIT_AS) == outer


def test_more_than_the_machine_has_is_never_allowed() -> None:
    with at_most(2**60):
        allowed = resource.getrlimit(resource.RLIMIT_AS)[0]

    assert allowed < 2**60


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        pytest.param("running ConstantOfShape node. Status Message: std::bad_alloc", True, id="new"),
        pytest.param("Failed to allocate memory for requested buffer of size 40", True, id="arena"),
        pytest.param("Got invalid dimensions for input: x", False, id="something-else"),
    ],
)
def test_what_a_library_says_without_memory_is_known(text: str, lacking: bool) -> None:
    assert lacks_memory(RuntimeError(text)) == lacking
