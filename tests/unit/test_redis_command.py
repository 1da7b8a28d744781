"""How the embedded server is started."""

from pathlib import Path

import pytest

from deploy.commands import ALLOCATOR, redis_command
from shared.settings import Settings


@pytest.mark.parametrize("given", [None, "glibc.malloc.arena_max=1"])
def test_whoever_sets_the_allocator_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", given)

    _, variable, *_ = redis_command(Settings(data_dir=tmp_path))

    assert variable.removeprefix("GLIBC_TUNABLES=").split(":") == [ALLOCATOR, *([given] if given else [])]
