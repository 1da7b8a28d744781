"""Calls without input and output: each is a generator of steps, which a runner takes, sync or async.

A flow yields a step, is sent what came of it, and has what is raised thrown into it; it returns what the call answers.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from foretell.errors import Unreachable

T = TypeVar("T")


class Body(Protocol):
    """A body that can be sent again from its beginning."""

    @property
    def media_type(self) -> str:
        """Its Content-Type."""

    @property
    def size_bytes(self) -> int:
        """How many bytes `blocks` gives."""

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, read anew."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request.

    `repeatable`: sent twice it does what it does once, so it may be sent again when nobody knows whether it arrived.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None  # JSON that is written already, in place of `json`
    body: Body | None = None
    repeatable: bool = True
    insist: bool = True  # False: the first answer holds, whatever it is
    patience_seconds: float = 0.0  # how much longer than others it may take until the answer begins
    deadline: float | None = None  # by the monotonic clock: it is not sent again after it


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that was read to its end; never one of 400 or more."""

    status: int
    headers: Mapping[str, str]  # names in small letters
    content: bytes

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Unreachable: it is none, so it does not come from the service.
        """
        try:
            return json.loads(self.content)
        except ValueError as error:
            begin = self.content[:60].decode(errors="replace")
            raise Unreachable(f"What answers is no Foretell; it begins with {begin!r}.") from error


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An answer whose body is read block by block."""

    status: int
    headers: Mapping[str, str]
    source: Any  # the runner's


@dataclass(frozen=True)
class Send:
    """Send a request and read the whole answer -> Answer."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and read its answer's head -> Stream; the stream that was opened before is closed."""

    request: Request


@dataclass(frozen=True)
class Read:
    """Read on -> bytes, empty at the end."""

    stream: Stream


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that may block, such as on a disk -> what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Give:
    """Hand one of several items to the caller."""

    item: Any


Step = Send | Open | Read | Pause | Work | Give
Flow = Generator[Step, Any, T]


def send(method: str, path: str, **more: Any) -> Flow[Answer]:
    """Send a request; the answer."""
    answer: Answer = yield Send(Request(method=method, path=path, **more))
    return answer


def work(function: Callable[[], T]) -> Flow[T]:
    """Call a function that may block; what it returns."""
    result: T = yield Work(function)
    return result
