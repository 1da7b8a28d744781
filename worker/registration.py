"""Registering a model: it is loaded and tried from the very bytes that are stored, before anybody can see it."""

import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from shared import __version__
from shared.errors import InvalidRequest, ModelUnusable
from shared.manifest import Manifest, timestamp
from shared.registry import ANY, NAME, PRODUCTION, Any_, Move, Registry
from shared.schema import SCHEMA
from shared.settings import Settings
from shared.signature import Signature
from shared.storage import artifact_name
from worker.accelerate import accelerate as make_faster
from worker.accelerated import NOT_WANTED, Acceleration
from worker.drain import until_written
from worker.formats import FORMATS, digest, load
from worker.formats.libraries import installed
from worker.formats.limits import USUAL, ArtifactLimits
from worker.formats.memory import at_most
from worker.formats.onnx_estimator import OnnxEstimator
from worker.profile import profile_of
from worker.trial import find_signature

Accelerate = Literal["auto", "onnx", "off"]
MIN_PROFILE_ROWS: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What is known of an artifact that was loaded and tried."""

    format: str
    sha256: str
    size_bytes: int
    memory_bytes: int
    signature: Signature
    estimator: str  # dotted class name
    libraries: dict[str, str]
    warnings: tuple[str, ...]
    model: Any  # the loaded estimator


def examine(artifact: bytes, *, format: str, sample: pa.Table | None, settings: Settings | None = None) -> Examined:
    """Load an artifact and try it on its sample, within the memory that this may take.

    Args:
        artifact: the bytes of the file.
        format: skops, onnx or joblib. joblib runs the artifact's code: only for what an operator trusts.
        sample: a few representative rows, n_rows by n_features; may be None for ONNX, whose graph says what it takes.
        settings: the service's, for its limits and trusted types.

    Raises:
        InvalidRequest: the sample cannot be used, or the format is none.
        ModelUnusable: the artifact cannot be loaded, fails on the sample, or needs more memory than it may.
    """
    if sample is None and format in ("skops", "joblib"):  # which may run code when they are loaded: ask before
        raise InvalidRequest("A sample is needed: a few representative rows of what the model predicts.")
    limits = USUAL if settings is None else ArtifactLimits.of(settings)
    try:
        with at_most(limits.check_bytes):
            loaded = load(format, artifact, limits)
            estimator = loaded.estimator
            if isinstance(estimator, OnnxEstimator):
                sample = estimator.typed(sample)
            signature = find_signature(estimator, sample)
            memory_bytes = FORMATS[format].memory_bytes(artifact, limits)
    except MemoryError as error:
        raise ModelUnusable(
            f"To load and try it the artifact needs more memory than the {limits.check_bytes // 2**20} MiB that it may "
            "have, or than there is; make it smaller, or have an operator raise FORETELL_MAX_UNPACKED_ARTIFACT_BYTES."
        ) from error
    return Examined(
        format=format,
        sha256=digest(artifact),
        size_bytes=len(artifact),
        memory_bytes=memory_bytes,
        signature=signature,
        estimator=class_name(estimator),
        libraries=installed(),
        warnings=loaded.warnings,
        model=estimator,
    )


def register(
    registry: Registry,
    name: str,
    artifact: bytes,
    *,
    format: str,
    sample: pa.Table | None,
    description: str = "",
    alias: str | None = PRODUCTION,
    expected: Any_ | int | None = ANY,
    accelerate: Accelerate = "auto",
    who: str = "",
    why: str = "",
    owner: str = "",
    token: str | None = None,
    fence: str | None = None,
    settings: Settings | None = None,
    schema: int = SCHEMA,
) -> Manifest:
    """Register a new version of a model, and point an alias at it.

    Args:
        registry: where to.
        name: the model's name, up to 64 letters, digits, dots, dashes and underscores.
        artifact: the bytes of the file.
        format: skops, onnx or joblib; see `examine`.
        sample: see `examine`.
        description: one line for people.
        alias: what shall point to the version; None for nothing.
        expected: the version that the alias must point to; None: it must not exist yet.
        accelerate: what to predict by, if that is equal and faster: `auto` for an exact form of tree ensembles, `onnx`
            for a converted copy.
        who: who does it, for the history of the alias.
        why: and why.
        owner: of the model if this is its first version; empty for nobody's. Where a job registers it, the job's.
        token: the same token gives the same version, however often it is tried; None for a new one.
        fence: of the unit of the job that registers it, whose id is the token then; a Redis that is away or full is
            tried again for as long as a unit may take.
        settings: the service's, for its limits and trusted types.
        schema: of the manifest; that of the job that registers it.

    Raises:
        InvalidRequest: the name or the sample cannot be used.
        ModelUnusable: the artifact cannot be loaded, or fails on the sample.
        AliasConflict: the alias does not point to the version that was expected; nothing is registered.
        LeaseLost: another attempt has the unit by now, or its job was cancelled.
        Forbidden: the model is another owner's than the job, and the job may not change those.
        StorageFailed, StoreUnavailable, StoreFull
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no model name; use up to 64 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit."
        )
    found = examine(artifact, format=format, sample=sample, settings=settings)
    outcome = accelerated(found, sample, wanted=accelerate)
    token, job_id = token or secrets.token_hex(8), None if fence is None else token
    patience_seconds = 0 if fence is None or settings is None else settings.unit_timeout_seconds
    version = until_written(lambda: registry.reserve(name, token), patience_seconds)
    manifest = Manifest(
        model=name,
        version=version,
        format=format,
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        memory_bytes=found.memory_bytes,
        stored_bytes=found.size_bytes + sum(map(len, outcome.files.values())),
        signature=found.signature,
        estimator=found.estimator,
        libraries=found.libraries,
        created_at=timestamp(),
        description=description,
        artifact=artifact_name(found.sha256),
        source_job=job_id,
        created_by=who,
        profile=profile_of_sample(sample, found.signature),
        accelerated=outcome.described,
        code=__version__,
        warnings=found.warnings,
        schema=schema,
    )
    move = Move(alias=alias, version=version, expected=expected, who=who, why=why, job_id=job_id) if alias else None
    registry.store(manifest, artifact, outcome.files)
    return until_written(lambda: registry.add(manifest, None, move=move, fence=fence, owner=owner), patience_seconds)


def accelerated(found: Examined, sample: pa.Table | None, *, wanted: Accelerate) -> Acceleration:
    """The outcome of `accelerate` for an artifact that was examined; nothing to say of it if it is not wanted."""
    if wanted == "off":
        return NOT_WANTED
    return make_faster(
        found.model, found.signature, sample, wanted=wanted, format=found.format, size_bytes=found.size_bytes,
        memory_bytes=found.memory_bytes,
    )  # fmt: skip


def profile_of_sample(sample: pa.Table | None, signature: Signature) -> dict[str, Any]:
    """The training profile, where the sample is large enough to say anything of the training data; else {}."""
    if sample is None or sample.num_rows < MIN_PROFILE_ROWS:
        return {}
    return profile_of(sample, signature)


def class_name(estimator: Any) -> str:
    """The class of an estimator, and for a pipeline that of its last step too."""
    name = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    steps = getattr(estimator, "steps", None)
    return f"{name}[{type(steps[-1][1]).__name__}]" if steps else name
