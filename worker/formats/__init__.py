"""Model formats: how bytes become an estimator, with what was said about it meanwhile."""

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import joblib

from shared.errors import ArtifactCorrupt, InvalidRequest, ModelUnusable, UnsafeArtifact
from shared.registry import Manifest
from worker.formats.archive import check_archive
from worker.formats.libraries import differences, installed
from worker.formats.limits import USUAL, ArtifactLimits
from worker.warned import collected

# scikit-learn warns so for each part of a pipeline; see sklearn.exceptions.InconsistentVersionWarning.
OTHER_VERSION: Final = re.compile(r"Trying to unpickle estimator \S+ from version (\S+) when using version (\S+)\.")
MOST_WARNINGS: Final = 10
LONGEST_WARNING: Final = 300


class Format(Protocol):
    """Turns an artifact into an estimator and back."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those on whose release it depends what a loaded estimator does."""

    def load(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> Any:
        """The estimator; raises ModelUnusable."""

    def dump(self, estimator: Any) -> bytes:
        """The artifact; raises ModelUnusable."""

    def memory_bytes(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> int:
        """What an artifact takes when it is loaded, as far as that can be told from the file; raises ModelUnusable."""


class Joblib:
    """joblib files: a pickle, which runs code when it is loaded; only from an operator on the server itself."""

    libraries: Final = ("scikit-learn", "numpy", "scipy", "joblib")

    def load(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> Any:
        """The estimator.

        Raises:
            ModelUnusable: it cannot be unpickled here.
            MemoryError
        """
        try:
            return joblib.load(io.BytesIO(artifact))
        except MemoryError:
            raise
        except Exception as error:
            raise ModelUnusable(f"The artifact cannot be loaded by joblib: {type(error).__name__}: {error}") from error

    def dump(self, estimator: Any) -> bytes:
        """The artifact."""
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer)
        return buffer.getvalue()

    def memory_bytes(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> int:
        """The file's size: nobody knows what a pickle that was compressed becomes."""
        return len(artifact)


class Skops:
    """skops files. What reads them is imported with the first one: it imports the whole of scikit-learn."""

    libraries: Final = ("scikit-learn", "numpy", "scipy")

    def load(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> Any:
        """The estimator.

        Raises:
            UnsafeArtifact, ModelUnusable, MemoryError: see worker.formats.skops.
        """
        from worker.formats.skops import load_archive

        self.memory_bytes(artifact, limits)
        return load_archive(artifact, limits)

    def dump(self, estimator: Any) -> bytes:
        """The artifact.

        Raises:
            ModelUnusable: the estimator has parts that skops cannot write.
        """
        from worker.formats.skops import dump_archive

        return dump_archive(estimator)

    def memory_bytes(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> int:
        """What the archive unpacks to, which is counted.

        Raises:
            UnsafeArtifact: it is a trap.
            ModelUnusable: it is no archive, or is damaged.
        """
        try:
            return check_archive(artifact, most_bytes=limits.unpacked_bytes)
        except UnsafeArtifact as error:
            raise UnsafeArtifact(f"The artifact is refused: {error.message}.") from error
        except ModelUnusable as error:
            raise ModelUnusable(f"The artifact is not a skops file that can be loaded: {error.message}.") from error


class Onnx:
    """ONNX files. What reads them is imported with the first one: it takes memory of every process."""

    libraries: Final = ("onnxruntime",)

    def load(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> Any:
        """The graph as an estimator.

        Raises:
            ModelUnusable, UnsafeArtifact, MemoryError: see worker.formats.onnx_graph.
        """
        from worker.formats.onnx_graph import load_graph

        return load_graph(artifact, limits)

    def dump(self, estimator: Any) -> bytes:
        """Never.

        Raises:
            ModelUnusable: an estimator is no graph.
        """
        raise ModelUnusable(f"A {type(estimator).__name__} cannot be written as ONNX; write it as skops or joblib.")

    def memory_bytes(self, artifact: bytes, limits: ArtifactLimits = USUAL) -> int:
        """What a graph holds is in the file as it is."""
        return len(artifact)


FORMATS: Final[dict[str, Format]] = {"skops": Skops(), "onnx": Onnx(), "joblib": Joblib()}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An estimator, and what is to be known about it."""

    estimator: Any
    warnings: tuple[str, ...]


def digest(artifact: bytes) -> str:
    """The sha256 of an artifact, in hexadecimal."""
    return hashlib.sha256(artifact).hexdigest()


def load(format: str, artifact: bytes, limits: ArtifactLimits = USUAL) -> Loaded:
    """Load an artifact.

    Raises:
        InvalidRequest: there is no such format.
        ModelUnusable: it cannot be loaded; UnsafeArtifact: it is not safe.
        MemoryError
    """
    if format not in FORMATS:
        raise InvalidRequest(f"There is no format {format!r}; there are {', '.join(FORMATS)}.")
    if len(artifact) > limits.artifact_bytes:
        raise ModelUnusable(
            f"The artifact has {len(artifact)} bytes, and {limits.artifact_bytes} are the most; "
            "an operator can raise FORETELL_MAX_ARTIFACT_BYTES."
        )
    with collected() as caught:
        try:
            estimator = FORMATS[format].load(artifact, limits)
        except ModelUnusable as error:
            raise _with_reason(error, caught) from error
    return Loaded(estimator, _told(caught))


def load_verified(manifest: Manifest, artifact: bytes, limits: ArtifactLimits = USUAL) -> Loaded:
    """Load a registered version; its bytes are verified before they are parsed.

    Raises:
        ArtifactCorrupt, ModelUnusable, MemoryError
    """
    found = digest(artifact)
    if found != manifest.sha256:
        raise ArtifactCorrupt(
            f"The artifact of {manifest.model}@{manifest.version} has sha256 {found}, "
            f"but {manifest.sha256} was registered."
        )
    others = differences(manifest.libraries, FORMATS[manifest.format].libraries)
    try:
        loaded = load(manifest.format, artifact, limits)
    except ModelUnusable as error:
        if not others or type(error) is not ModelUnusable:
            raise
        raise ModelUnusable(f"{error.message} It was registered with {', '.join(others)}; fit it again.") from error
    if not others:
        return loaded
    told = f"It was registered with {', '.join(others)}; it may predict otherwise than it did, so fit it again."
    return Loaded(loaded.estimator, (told, *loaded.warnings))


def _told(caught: Iterable[str]) -> tuple[str, ...]:
    """What was warned of, each once; another release of scikit-learn in one sentence for all parts of a pipeline."""
    told: dict[str, None] = {}
    for text in caught:
        if other := OTHER_VERSION.match(text):
            text = (
                f"It was fitted with scikit-learn {other[1]} and is loaded by {other[2]}; it may predict otherwise "
                "than it did, so fit it again."
            )
        told[text[:LONGEST_WARNING]] = None
    return tuple(told)[:MOST_WARNINGS]


def _with_reason(error: ModelUnusable, caught: Iterable[str]) -> ModelUnusable:
    """An error that says which scikit-learn the artifact was fitted with, if that is not the one that is here."""
    others = {other[1] for text in caught if (other := OTHER_VERSION.match(text))}
    if not others or type(error) is not ModelUnusable:
        return error
    return ModelUnusable(
        f"{error.message} It was fitted with scikit-learn {', '.join(sorted(others))}; fit it again with "
        f"scikit-learn {installed()['scikit-learn']}, which is installed here."
    )
