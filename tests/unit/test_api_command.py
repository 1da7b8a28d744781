"""How the API is started."""

from pathlib import Path

import pytest

from deploy.commands import api_command
from shared.settings import Settings


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_connections_that_wait_leave_room_for_others_however_many_processes_there_are(
    tmp_path: Path, processes: int
) -> None:
    settings = Settings(data_dir=tmp_path, api_processes=processes, api_threads=2_000)

    words = api_command(settings)

    assert int(words[words.index("--backpressure") + 1]) >= settings.api_threads + 1_000
