"""The asynchronous client does what the other does, and leaves the event loop to others meanwhile."""

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foretell import AsyncClient, AsyncJob, Client, Job, Progress, Status, StillRunning
from foretell.errors import ModelNotFound

from tests.client.test_files import FILE, ROWS
from tests.models import RAISE
from tests.system.rows import LINEAR_ROWS
from tests.system.service import Barrier

Connect = Callable[..., AsyncClient]


@pytest.mark.parametrize(("own", "other"), [(AsyncClient, Client), (AsyncJob, Job)])
def test_both_have_the_same_methods_with_the_same_parameters(own: type, other: type) -> None:
    def shape(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name.replace("__a", "__"): [
                (p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()
            ]
            for name, method in methods
            if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__")
        }

    assert shape(own) == shape(other)


def test_many_predictions_are_waited_for_at_once(connect: Connect) -> None:
    async def run() -> list[Any]:
        async with connect() as client:
            return await asyncio.gather(
                *(client.predict("moody", [[float(n)]]) for n in range(30) if n not in (7, 8, 9, 13))
            )

    assert asyncio.run(run())[:3] == [[0.0], [2.0], [4.0]]


def test_a_job_is_followed_cancelled_and_tried_again(connect: Connect, barrier: Barrier) -> None:
    async def run() -> None:
        async with connect() as client:
            held = await client.job(barrier.hold()["id"])
            with pytest.raises(StillRunning):
                await held.wait(1)
            job = await client.submit("moody", np.array([[1.0], [RAISE]]))
            seen = [changed.status async for changed in job.events()]
            assert seen[-1] == Status.PARTIALLY_SUCCEEDED
            assert np.isnan((await job.result())[1])
            assert [error["row"] for error in await job.errors()] == [2]
            assert (await (await job.retry()).wait(30)).status == Status.FAILED
            assert job.id in [one.id async for one in client.jobs(model="moody", limit=5)]
            await (await held.refresh()).cancel()
            await job.delete()

    asyncio.run(run())


def test_a_file_goes_up_and_down_while_others_use_the_loop(connect: Connect, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_bytes(FILE)
    told: list[Progress] = []
    turns: list[int] = []

    async def turn() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def run() -> None:
        other = asyncio.create_task(turn())
        async with connect() as client:
            await client.predict_file(rows, "linear", out, progress=told.append)
            reference = await client.upload(rows)
            job = await client.submit_file(reference, "linear")
            await (await job.wait(30)).download(tmp_path / "again.csv")
        other.cancel()

    asyncio.run(run())

    assert len(out.read_bytes().splitlines()) == ROWS - 1
    assert out.read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert {progress.stage for progress in told} == {"upload", "scoring", "download"}
    assert len(turns) > 100


def test_what_is_awaited_no_longer_is_given_up(connect: Connect, barrier: Barrier) -> None:
    async def run() -> None:
        async with connect() as client:
            job = await client.job(barrier.hold()["id"])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await job.wait()
            assert len(await client.predict("linear", LINEAR_ROWS)) == 2

    asyncio.run(run())


def test_models_and_errors_are_the_same(connect: Connect) -> None:
    async def run() -> None:
        async with connect() as client:
            assert "linear" in [model["name"] for model in await client.models()]
            assert (await client.model("linear"))["aliases"]["production"] == 1
            assert (await client.readiness())["ready"] is True
            with pytest.raises(ModelNotFound):
                await client.predict("nobody", [[1]])

    asyncio.run(run())
