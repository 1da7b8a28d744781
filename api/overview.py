"""The route of the overview: what waits, runs, ended and failed of late, for people who watch."""

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from flask import Blueprint, Response
from pydantic import BaseModel

from api.access import caller
from api.documents import FailureDocument
from api.headers import json_response
from api.openapi import operation
from api.services import Services
from shared.api_keys import Scope
from shared.job import Job, timestamp
from shared.measures import Scale
from shared.overview import SLOT_SECONDS, Overview, Slot, Work, Worker, is_fresh
from shared.owner import EVERYBODY


class ScaleDocument(BaseModel):
    """Workers of a queue with their processes, how many of both are wanted, and why."""

    workers: int
    processes: int
    wanted_workers: int
    wanted_processes: int
    backlog_seconds: float
    job_cost_seconds: float | None


class QueueDocument(BaseModel):
    """Jobs of a queue; of `webhooks`, deliveries that wait. `scale` is told to admins, of queues that do jobs."""

    name: str
    waiting: int
    running: int
    oldest_wait_seconds: int | None
    scale: ScaleDocument | None


class WorkDocument(BaseModel):
    """What a process of a worker is at: how many jobs of the reader, and if there are any, the model or the job."""

    kind: Literal["predict", "plan", "chunk", "final"]
    model: str | None
    job_id: str | None
    jobs: int
    since: str


class WorkerDocument(BaseModel):
    """A process that said lately that it lives; `queues` may be the scheduler."""

    name: str
    queues: list[str]
    version: str | None
    heard_at: str
    alive: bool
    work: list[WorkDocument]


class SlotDocument(BaseModel):
    """What ended within `slot_seconds` of `at`; the times are from accepted to done, without cancelled jobs."""

    at: str
    jobs: int
    failed: int
    rows: int
    p50_seconds: float | None
    p95_seconds: float | None


class LateFailure(BaseModel):
    """A job that failed."""

    job_id: str
    owner: str
    kind: str
    model: str
    failure: FailureDocument | None
    finished_at: str | None


class OverviewDocument(BaseModel):
    """What goes on: of the caller's owner, or with the scope admin of everybody (`owner` is null)."""

    owner: str | None
    queues: list[QueueDocument]
    workers: list[WorkerDocument]
    slot_seconds: int
    slots: list[SlotDocument]
    failures: list[LateFailure]


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("overview", __name__)

    @blueprint.get("/overview")
    @operation(
        "What waits, runs, ended and failed of late; with the scope admin of all owners",
        tag="operations",
        scope=Scope.JOBS_READ,
        answers={200: OverviewDocument},
    )
    def overview() -> Response:
        who = caller()
        owner = EVERYBODY if who.may(Scope.ADMIN) else who.owner
        scales = services.measures.now().scales if owner == EVERYBODY else {}
        return json_response(orjson.dumps(overview_document(services.overviews.of(owner), owner, scales)))

    return blueprint


def overview_document(seen: Overview, owner: str, scales: Mapping[str, Scale]) -> dict[str, Any]:
    """An overview as clients read it, with the scale of each queue where it is given."""
    return {
        "owner": None if owner == EVERYBODY else owner,
        "queues": [
            {
                "name": queue.name,
                "waiting": queue.waiting,
                "running": queue.running,
                "oldest_wait_seconds": queue.oldest_at and max(0, int((seen.at - queue.oldest_at).total_seconds())),
                "scale": _scale(scales[queue.name]) if queue.name in scales else None,
            }
            for queue in seen.queues
        ],
        "workers": [_worker(worker, seen) for worker in seen.workers],
        "slot_seconds": SLOT_SECONDS,
        "slots": [_slot(slot) for slot in seen.slots],
        "failures": [_failure(job) for job in seen.failures],
    }


def _scale(scale: Scale) -> dict[str, Any]:
    cost = scale.job_cost_seconds
    return {
        "workers": scale.workers,
        "processes": scale.processes,
        "wanted_workers": scale.wanted_workers,
        "wanted_processes": scale.wanted_processes,
        "backlog_seconds": round(scale.backlog_seconds, 3),
        "job_cost_seconds": cost and round(cost, 6),
    }


def _worker(worker: Worker, seen: Overview) -> dict[str, Any]:
    return {
        "name": worker.name,
        "queues": list(worker.roles),
        "version": worker.version,
        "heard_at": timestamp(worker.heard_at),
        "alive": is_fresh(worker, seen.at),
        "work": [_work(work) for work in worker.work],
    }


def _work(work: Work) -> dict[str, Any]:
    is_staged = work.kind != "predict"
    return {
        "kind": work.kind,
        "model": work.lane if work.own_jobs and not is_staged else None,
        "job_id": work.lane if is_staged and work.own_jobs else None,
        "jobs": work.own_jobs,
        "since": timestamp(work.since),
    }


def _slot(slot: Slot) -> dict[str, Any]:
    return {
        "at": timestamp(slot.at),
        "jobs": slot.jobs,
        "failed": slot.failed,
        "rows": slot.rows,
        "p50_seconds": slot.quantile_seconds(0.5),
        "p95_seconds": slot.quantile_seconds(0.95),
    }


def _failure(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "owner": job.spec.owner,
        "kind": job.kind,
        "model": job.spec.model,
        "failure": None if job.failure is None else {**job.failure, "errors": list(job.errors[:3])},
        "finished_at": timestamp(job.finished_at),
    }
