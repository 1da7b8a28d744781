"""The parts of a process that CPU time goes to, told by the frames of its stacks."""

import linecache
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from benchmarks.processes import CHECKOUT
from benchmarks.spy import Stack

FRAME: Final = re.compile(r"^(?P<function>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\)$")
OTHER: Final = "other"

# The innermost frame that a rule knows says whose time it is; the standard library works for whoever called it.
# Patterns are of the paths that py-spy shows, from the package on.
RULES: Final = {
    "api": (
        (r"^api/(waiters|waiting|places|changes|events)\.py", "waiting list and its listener"),
        (r"^api/front/waiting\.py", "waiting list and its listener"),
        (r"^(redis|hiredis)/|^shared/connection\.py", "Redis client"),
        (r"^api/front/pipeline\.py", "Redis client"),
        (r"^api/front/(client|head|tunnel|loop)\.py", "web server and body"),
        (r"^pydantic", "pydantic"),
        (r"^(flask|werkzeug|blinker|itsdangerous|markupsafe)/|^api/application\.py", "Flask and Werkzeug"),
        (r"^granian/|^api/(server|bodies|slow_clients|browsers)\.py", "web server and body"),
        (r"^structlog/|^logging/|^shared/logs\.py", "logs"),
        (r"^shared/(signature|json_depth)\.py|^api/(instances|features|wire|options|intake|submission)\.py", "checks"),
        (r"^api/(render|headers|results|documents)\.py", "rendering"),
        (r"^shared/(store|records|job|keys|limits|frozen)\.py", "job store"),
        (r"^(prometheus_client|opentelemetry)/", "metrics"),
        (r"^(api|shared)/", "routes and the rest of ours"),
    ),
    "online worker": (
        (r"^(sklearn|numpy|scipy|joblib|threadpoolctl|narwhals)/", "predict: scikit-learn, NumPy"),
        (r"^worker/(predict|container|warned|micro_batch)\.py", "predict: stacking and taking apart"),
        (r"^(redis|hiredis)/|^shared/connection\.py", "Redis client"),
        (r"^structlog/|^logging/|^shared/logs\.py", "logs"),
        (r"^worker/(lease|preload|stopping)\.py", "leases and watching"),
        (r"^shared/", "job store"),
        (r"^worker/", "drain"),
        (r"^(celery|kombu|billiard|vine|amqp|click)/", "Celery"),
    ),
}
# A thread that serves one thing all its life.
THREADS: Final = {"_listen_for_ever": "waiting list and its listener"}
# Where a line of ours calls a library that has no frames of its own.
CALLS: Final = {"orjson.": "orjson"}


def parts_of(role: str, stacks: Sequence[Stack]) -> dict[str, float]:
    """The share of each part of a role's samples, the largest first; they sum up to 1 if there are any."""
    counts: Counter[str] = Counter()
    for stack in stacks:
        counts[part_of(role, stack.frames)] += stack.samples
    total = sum(counts.values())
    return {part: count / total for part, count in counts.most_common()}


def part_of(role: str, frames: Sequence[str]) -> str:
    """The part that a stack's time belongs to.

    Args:
        role: `api` or `online worker`.
        frames: from the outermost to the innermost.
    """
    seen = [match.groupdict() for frame in frames if (match := FRAME.match(frame))]
    for frame in seen:
        for function, part in THREADS.items():
            if frame["function"].endswith(function):
                return part
    if seen:
        line = _source_line(seen[-1])
        for call, part in CALLS.items():
            if call in line:
                return part
    for frame in reversed(seen):
        for pattern, part in RULES[role]:
            if re.search(pattern, frame["file"]):
                return part
    return OTHER


def _source_line(frame: dict[str, str]) -> str:
    """The line of ours that a frame is at; empty for a library's."""
    path = CHECKOUT / frame["file"]
    return linecache.getline(str(path), int(frame["line"])) if frame["line"] and path.exists() else ""
