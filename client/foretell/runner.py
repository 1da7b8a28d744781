"""The two ways to take the steps of a flow: with threads that block, and with asyncio."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Final

import httpx

from foretell import __version__
from foretell.access import Access
from foretell.errors import Unreachable, problem_of
from foretell.flow import Answer, Flow, Give, Open, Pause, Read, Request, Send, Step, Stream, T, Work
from foretell.retry import RetryPolicy, insistent
from foretell.tracing import trace_headers

USER_AGENT: Final = f"foretell-python/{__version__}"
CONNECT_SECONDS: Final = 10.0


class _Runner:
    """What both have in common: where the service is, and how requests look."""

    def __init__(self, access: Access, policy: RetryPolicy, timeout_seconds: float) -> None:
        self.access = access
        self.policy = policy
        self._timeout_seconds = timeout_seconds

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json, */*;q=0.5"}
        return headers | ({"Authorization": f"Bearer {self.access.key}"} if self.access.key else {})

    def _sent(self, request: Request) -> dict[str, Any]:
        """What httpx is asked for, but for a body that is streamed."""
        headers, content = trace_headers() | dict(request.headers), request.content
        if request.json is not None:
            content = json.dumps(request.json, allow_nan=False).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        if request.body is not None:
            headers |= {"Content-Type": request.body.media_type, "Content-Length": str(request.body.size_bytes)}
        patience = self._timeout_seconds + request.patience_seconds
        return {
            "method": request.method,
            "url": request.path,
            "params": dict(request.query) or None,
            "headers": headers,
            "content": content,
            "timeout": httpx.Timeout(self._timeout_seconds, connect=CONNECT_SECONDS, read=patience),
        }


class SyncRunner(_Runner):
    """Takes steps one after the other in the calling thread."""

    def __init__(self, access: Access, policy: RetryPolicy, timeout_seconds: float) -> None:
        super().__init__(access, policy, timeout_seconds)
        self._http = httpx.Client(base_url=access.url, headers=self._headers())

    def run(self, flow: Flow[T]) -> T:
        """What a flow returns."""
        steps = self._steps(flow)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def each(self, flow: Flow[None]) -> Iterator[Any]:
        """The items that a flow gives."""
        yield from self._steps(flow)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _steps(self, flow: Flow[T]) -> Generator[Any, None, T]:
        flow, came, error = insistent(flow, self.policy), None, None
        with contextlib.closing(flow), contextlib.ExitStack() as opened:
            while True:
                try:
                    step = flow.send(came) if error is None else flow.throw(error)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                came, error = None, None
                if isinstance(step, Give):
                    yield step.item
                    continue
                try:
                    came = self._take(step, opened)
                except Exception as raised:  # noqa: BLE001 - it is the flow's to handle
                    error = raised

    def _take(self, step: Step, opened: contextlib.ExitStack) -> Any:
        match step:
            case Send(request):
                response = self._http.request(**self._with_body(request))
                return _answer(response)
            case Open(request):
                opened.close()
                sent = self._http.build_request(**self._with_body(request))
                response = self._http.send(sent, stream=True)
                opened.callback(response.close)
                if response.status_code >= 400:
                    response.read()
                _raise_problem(response)
                return Stream(status=response.status_code, headers=_headers(response), source=response.iter_raw())
            case Read(stream):
                return next(stream.source, b"")
            case Pause(seconds):
                return time.sleep(seconds)
            case Work(function):
                return function()
            case Give():  # pragma: no cover - taken above
                return None

    def _with_body(self, request: Request) -> dict[str, Any]:
        return self._sent(request) | ({"content": request.body.blocks()} if request.body else {})


class AsyncRunner(_Runner):
    """Takes steps in an event loop; what may block is done in a thread."""

    def __init__(self, access: Access, policy: RetryPolicy, timeout_seconds: float) -> None:
        super().__init__(access, policy, timeout_seconds)
        self._http = httpx.AsyncClient(base_url=access.url, headers=self._headers())

    async def run(self, flow: Flow[T]) -> T:
        """What a flow returns."""
        end = _Returned()
        async with contextlib.aclosing(self._steps(flow, end)) as steps:
            async for _ in steps:
                pass
        return end.value  # type: ignore[no-any-return]

    async def each(self, flow: Flow[None]) -> AsyncIterator[Any]:
        """The items that a flow gives."""
        async with contextlib.aclosing(self._steps(flow, _Returned())) as steps:
            async for item in steps:
                yield item

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _steps(self, flow: Flow[T], returned: "_Returned") -> AsyncGenerator[Any, None]:
        flow, came, error = insistent(flow, self.policy), None, None
        async with contextlib.AsyncExitStack() as opened:
            with contextlib.closing(flow):
                while True:
                    try:
                        step = flow.send(came) if error is None else flow.throw(error)
                    except StopIteration as end:
                        returned.value = end.value
                        return
                    came, error = None, None
                    if isinstance(step, Give):
                        yield step.item
                        continue
                    try:
                        came = await self._take(step, opened)
                    except Exception as raised:  # noqa: BLE001 - it is the flow's to handle
                        error = raised

    async def _take(self, step: Step, opened: contextlib.AsyncExitStack) -> Any:
        match step:
            case Send(request):
                response = await self._http.request(**self._with_body(request))
                return _answer(response)
            case Open(request):
                await opened.aclose()
                sent = self._http.build_request(**self._with_body(request))
                response = await self._http.send(sent, stream=True)
                opened.push_async_callback(response.aclose)
                if response.status_code >= 400:
                    await response.aread()
                _raise_problem(response)
                return Stream(status=response.status_code, headers=_headers(response), source=response.aiter_raw())
            case Read(stream):
                return await anext(stream.source, b"")
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Work(function):
                return await asyncio.to_thread(function)
            case Give():  # pragma: no cover - taken above
                return None

    def _with_body(self, request: Request) -> dict[str, Any]:
        return self._sent(request) | ({"content": _in_threads(request.body.blocks())} if request.body else {})


class _Returned:
    """What a flow returned, since an asynchronous generator can return nothing."""

    value: Any = None


async def _in_threads(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _raise_problem(response: httpx.Response) -> None:
    if response.has_redirect_location:
        place = response.headers.get("Location", "elsewhere")
        raise Unreachable(f"{response.request.url} leads to {place}; the address of the service may be another one.")
    if response.status_code >= 400:
        raise problem_of(response.status_code, response.content, response.headers.get("Retry-After"))


def _answer(response: httpx.Response) -> Answer:
    _raise_problem(response)
    return Answer(status=response.status_code, headers=_headers(response), content=response.content)
