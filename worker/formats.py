"""Model formats: how bytes become an estimator, and the types that are trusted to do so."""

import hashlib
import io
from typing import Any, Final, Protocol

import joblib
import skops.io

from shared.errors import ArtifactCorrupt, ModelUnusable, UnsafeArtifact
from shared.registry import Manifest

# Plain data holders of the libraries that are installed here anyway: their state is arrays and numbers, and
# constructing one runs none of the artifact's code. skops itself trusts the estimators; these are their parts.
TRUSTED: Final = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.PinballLoss",
    "sklearn._loss._loss.CyAbsoluteError",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfGammaLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfPoissonLoss",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss._loss.CyPinballLoss",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "numpy.dtype",
    "numpy.random._pickle.__randomstate_ctor",
    "scipy.sparse._csr.csr_matrix",
    "collections.OrderedDict",
)


class Format(Protocol):
    """Turns an artifact into an estimator and back."""

    def load(self, artifact: bytes) -> Any:
        """The estimator; raises ModelUnusable."""

    def dump(self, estimator: Any) -> bytes:
        """The artifact; raises ModelUnusable."""


class Skops:
    """skops files: audited before anything is constructed."""

    def load(self, artifact: bytes) -> Any:
        """The estimator.

        Raises:
            UnsafeArtifact: it holds types beyond the trusted ones; nothing was constructed.
            ModelUnusable: it is no skops file.
        """
        try:
            unknown = sorted(set(skops.io.get_untrusted_types(data=artifact)) - set(TRUSTED))
            if unknown:
                raise UnsafeArtifact(
                    f"The artifact holds types that are not trusted: {', '.join(unknown)}. "
                    "If you made it yourself, register it as joblib on the server."
                )
            return skops.io.loads(artifact, trusted=list(TRUSTED))
        except ModelUnusable:
            raise
        except Exception as error:
            raise ModelUnusable(f"The artifact is not a skops file that can be loaded: {error}") from error

    def dump(self, estimator: Any) -> bytes:
        """The artifact.

        Raises:
            ModelUnusable: the estimator has parts that skops cannot write.
        """
        try:
            return bytes(skops.io.dumps(estimator))
        except Exception as error:
            raise ModelUnusable(f"skops cannot write this {type(estimator).__name__}: {error}") from error


class Joblib:
    """joblib files: a pickle, which runs code when it is loaded; only from an operator on the server itself."""

    def load(self, artifact: bytes) -> Any:
        """The estimator.

        Raises:
            ModelUnusable: it cannot be unpickled here.
        """
        try:
            return joblib.load(io.BytesIO(artifact))
        except Exception as error:
            raise ModelUnusable(f"The artifact cannot be loaded by joblib: {type(error).__name__}: {error}") from error

    def dump(self, estimator: Any) -> bytes:
        """The artifact."""
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer)
        return buffer.getvalue()


FORMATS: Final[dict[str, Format]] = {"skops": Skops(), "joblib": Joblib()}


def digest(artifact: bytes) -> str:
    """The sha256 of an artifact, in hexadecimal."""
    return hashlib.sha256(artifact).hexdigest()


def load_verified(manifest: Manifest, artifact: bytes) -> Any:
    """The estimator of a registered version; its bytes are verified before they are parsed.

    Raises:
        ArtifactCorrupt, ModelUnusable
    """
    found = digest(artifact)
    if found != manifest.sha256:
        raise ArtifactCorrupt(
            f"The artifact of {manifest.model}@{manifest.version} has sha256 {found}, "
            f"but {manifest.sha256} was registered."
        )
    return FORMATS[manifest.format].load(artifact)
