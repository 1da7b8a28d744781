"""What a scheduled training would learn from and be compared with: where that is what it was, the outcome is too."""

import hashlib
from collections.abc import Callable

import orjson
from pydantic import ValidationError

from shared.errors import FileMissing, ModelNotFound, ServiceError
from shared.files import Files
from shared.inputs import Inputs
from shared.registry import PRODUCTION, Registry
from shared.requests import TrainingRequest, referenced, train_submission
from shared.schedule import Schedule

Basis = Callable[[str, Schedule], str | None]


def basis_of(registry: Registry, files: Files, inputs: Inputs) -> Basis:
    """Gives the digest of a model's training by its schedule: of the file, the options, the base and the champion.

    A file is told by its sha256 if it was sent to the service, and by the tag that its storage gives it (of a local one
    by size and time of change). It is None where that cannot be told; the submit says then what is wrong.
    """

    def basis(model: str, schedule: Schedule) -> str | None:
        try:
            wanted = TrainingRequest.model_validate(schedule.train)
            input = referenced(files, inputs, wanted, schedule.owner)
            spec = train_submission(registry, wanted, model, input, job_id="", ttl_seconds=0, request_id="").spec
            storage, key = inputs.open(input)
            file = input.sha256 or storage.tag(key)
            champion = registry.model(model).aliases.get(PRODUCTION)
        except (ValidationError, ServiceError, FileMissing):
            return None
        if file is None or spec.train is None:
            return None
        about = [file, model, spec.train.to_dict(), champion]
        return hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()

    return basis


def has_made(registry: Registry, model: str, job_id: str) -> bool:
    """Whether a training ended in a version of the model that is still there.

    Raises:
        StoreUnavailable
    """
    try:
        return any(manifest.source_job == job_id for manifest in registry.model(model).versions)
    except ModelNotFound:
        return False
