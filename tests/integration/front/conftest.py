"""A front for each test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from werkzeug.serving import make_server

from api.front.answers import Answers
from api.front.client import Client
from api.front.loop import Front
from tests.integration.apis import Api, online_work
from tests.integration.front.clients import Running, answers, do_all, is_piped
from tests.kept import short_folder
from tests.models import register_moody
from tests.wait import until
from worker.online import OnlineWork

MakeApi = Callable[..., Api]


@pytest.fixture
def start(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Start a front, with settings of one's own."""
    in_threads: list[str] = []
    in_thread = Answers.in_thread

    def noted(answers: Answers, client: Client, environ: Any) -> None:
        in_threads.append(environ["PATH_INFO"])
        in_thread(answers, client, environ)

    monkeypatch.setattr(Answers, "in_thread", noted)
    monkeypatch.setattr("api.access.REMEMBER_SECONDS", 3600.0)  # whose look at Redis is a thread's
    with ExitStack() as stack:

        def begin(**values: Any) -> Running:
            path = str(stack.enter_context(short_folder()) / "api")
            api = make_api(**values)
            port = api.settings.port
            register_moody(api.settings)
            server = make_server(f"unix://{path}", 0, api.app, threaded=True)
            serving = threading.Thread(target=server.serve_forever)
            front = Front(api.app, path.encode())
            serving.start()
            stack.callback(serving.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            front.start()
            stack.callback(front.finish)
            connections = stack.enter_context(ExitStack())
            until(lambda: answers(port), what="the front listens")
            running = Running(
                api=api,
                front=front,
                port=port,
                server=server,
                serving=serving,
                path=path,
                in_threads=in_threads,
                connections=connections,
            )
            until(lambda: is_piped(running), what="the loop has its connection to Redis")
            in_threads.clear()
            return running

        yield begin


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A front as by default."""
    return start()


@pytest.fixture
def work(running: Running) -> OnlineWork:
    """A worker that is this process, which has done what there was."""
    work = online_work(running.api)
    do_all(work)
    return work
