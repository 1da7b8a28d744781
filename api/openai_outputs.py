"""What a batch made, as lines of OpenAI's batch output: the job's own files, rendered while they are sent.

Every line is longer by the same number of bytes than the one that it is made of, so that the size is known beforehand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from flask import Response

from api.downloads import attachment, sent
from api.lines import blocks_of_lines
from api.openai_documents import OpenAIFile
from api.outcomes import FAULTS_OF_OURS
from api.services import Services
from shared.job import Job, Status
from shared.storage import Storage

Kind = Literal["output", "errors"]
# Of what files of the job they are made, one after the other.
KINDS: Final[dict[Kind, tuple[str, ...]]] = {"output": ("result",), "errors": ("errors", "unreached")}
# A line of a result: the key, which is a string, then the predictions.
RESULT: Final = re.compile(rb'\{"custom_id":("(?:[^"\\]|\\.)*"),(.*)\}', re.DOTALL)
# A line of unreached requests: {"key":...}
KEY: Final = slice(len(b'{"key":'), -len(b"}"))
SAMPLES: Final = {
    "result": b'{"custom_id":"","prediction":0}',
    "errors": orjson.dumps({"row": 0, "key": "", "column": None, "code": "", "message": ""}),
    "unreached": b'{"key":""}',
}
MEDIA_TYPE: Final = "application/jsonl"
# Of lines that were never reached.
EXPIRED: Final = orjson.dumps(
    {"code": "batch_expired", "message": "The line was not reached within the completion_window of the batch."}
)
CANCELLED: Final = orjson.dumps(
    {"code": "batch_cancelled", "message": "The line was not reached before the batch was cancelled."}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """The output or the errors of a batch."""

    job: Job
    kind: Kind

    @property
    def id(self) -> str:
        """As the batch names it."""
        return f"{self.job.id}-{self.kind}"

    @property
    def stored(self) -> list[tuple[str, dict[str, Any]]]:
        """The files of the job that it is rendered from, by their names, without those that have no line."""
        outputs = self.job.outputs
        return [(name, outputs[name]) for name in KINDS[self.kind] if outputs.get(name, {}).get("rows")]

    @property
    def size_bytes(self) -> int:
        """Of all its lines."""
        return sum(self._size_bytes(name, about) for name, about in self.stored)

    def _size_bytes(self, name: str, about: dict[str, Any]) -> int:
        sample = SAMPLES[name]
        longer = len(self.rendered(name, sample, 0)) - len(sample)
        return int(about["bytes"]) + int(about["rows"]) * longer

    def document(self) -> OpenAIFile:
        """What is known of it."""
        job = self.job
        assert job.finished_at is not None  # noqa: S101  # it has outputs
        return OpenAIFile(
            id=self.id,
            bytes=self.size_bytes,
            created_at=int(job.finished_at.timestamp()),
            expires_at=None if job.expires_at is None else int(job.expires_at.timestamp()),
            filename=f"{self.id}.jsonl",
            purpose="batch_output",
        )

    def response(self, services: Services) -> Response:
        """Its lines, sent as they are rendered.

        Raises:
            TooManyDownloads, FileMissing, StorageFailed
        """
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(self.size_bytes),
            "Content-Disposition": attachment(f"{self.id}.jsonl"),
        }
        return sent(lambda: self.blocks(services.storage), services.downloads, headers=headers)

    def blocks(self, storage: Storage) -> Iterator[bytes]:
        """Its lines, some at a time.

        Raises:
            FileMissing, StorageFailed
        """
        number = 0
        for name, about in self.stored:
            for lines in blocks_of_lines(storage, about):
                yield b"".join(self.rendered(name, line, number + at) + b"\n" for at, line in enumerate(lines, start=1))
                number += len(lines)

    def rendered(self, name: str, line: bytes, number: int) -> bytes:
        """A line of a stored file, without its end, in OpenAI's words; `number` is its own in this one, from 1."""
        match name:
            case "result":
                return self._answer(line, number)
            case "errors":
                return self._error(line, number)
            case _:
                return self._unreached(line, number)

    def _answer(self, line: bytes, number: int) -> bytes:
        found = RESULT.fullmatch(line)
        assert found is not None  # noqa: S101  # the finaliser wrote it, with custom_id for its key
        model = f"{self.job.spec.model}@{self.job.spec.version}".encode()
        body = b'{"object":"prediction","model":"%b",%b}' % (model, found[2])
        return self._line(found[1], 200, body, number)

    def _error(self, line: bytes, number: int) -> bytes:
        about = orjson.loads(line)
        error = {"message": about["message"], "type": "row_failed", "param": about["column"], "code": about["code"]}
        body = orjson.dumps({"error": error | {"row": about["row"]}})
        return self._line(orjson.dumps(about["key"]), 500 if about["code"] in FAULTS_OF_OURS else 422, body, number)

    def _unreached(self, line: bytes, number: int) -> bytes:
        error = CANCELLED if self.job.status is Status.CANCELLED else EXPIRED
        return b'{"id":"%b","custom_id":%b,"response":null,"error":%b}' % (self._own(number), line[KEY], error)

    def _line(self, key: bytes, status: int, body: bytes, number: int) -> bytes:
        own = self._own(number)
        return b'{"id":"%b","custom_id":%b,"response":{"status_code":%d,"request_id":"%b","body":%b},"error":null}' % (
            own, key, status, own, body,
        )  # fmt: skip

    def _own(self, number: int) -> bytes:
        """What a line is called."""
        return f"{self.id}-{number:012d}".encode()


def outputs_of(job: Job) -> dict[Kind, OutputFile]:
    """The files of a batch that have lines."""
    return {kind: file for kind in KINDS if (file := OutputFile(job=job, kind=kind)).stored}


def unreached(job: Job) -> int:
    """The lines of a batch that has ended before it came to them, as far as they are in its errors."""
    return int(job.outputs.get("unreached", {}).get("rows") or 0)
