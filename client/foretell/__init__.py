"""Python client of Foretell, a self-hosted asynchronous prediction service."""

__version__ = "0.1.0"

from foretell import errors
from foretell.async_client import AsyncClient
from foretell.client import Client
from foretell.errors import ForetellError, JobFailed, Problem, RowsFailed, StillRunning, Unreachable
from foretell.job import AsyncJob, Job
from foretell.progress import Progress
from foretell.source import Reference
from foretell.status import DONE, Status

__all__ = [
    "DONE", "AsyncClient", "AsyncJob", "Client", "ForetellError", "Job", "JobFailed", "Problem", "Progress",
    "Reference", "RowsFailed", "Status", "StillRunning", "Unreachable", "errors",
]  # fmt: skip
