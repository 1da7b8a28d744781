"""skops files: a zip archive of descriptions and arrays, audited before anything is constructed."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import skops.io
from skops.io._audit import Node, audit_tree, get_tree
from skops.io._utils import read_schema

from shared.errors import ModelUnusable, UnsafeArtifact
from worker.formats.contents import check_contents
from worker.formats.limits import USUAL, ArtifactLimits

SCHEMA: Final = "schema.json"
MOST_SCHEMA_BYTES: Final = 256 * 2**20  # a forest of 1,000 trees has 5 MB, a vocabulary of 100,000 words 30
NAMED_TYPES: Final = 20
WHAT_TO_DO: Final = (
    "If you made it yourself, register it as joblib on the server, or ask an operator to add the types to "
    "FORETELL_TRUSTED_TYPES after reading their code."
)

# Plain data holders and formulas of the libraries that are installed here anyway: their state is arrays and numbers,
# and constructing one runs none of the artifact's code. skops itself trusts the estimators; these are their parts.
# That the numbers in trees lead nowhere else is seen to by worker.formats.contents.
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
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn._loss._loss.CyHalfTweedieLoss",
    "sklearn._loss._loss.CyHalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "numpy.dtype",
    "numpy.random._pickle.__randomstate_ctor",
    "scipy.sparse._csr.csr_matrix",
    "collections.OrderedDict",
)


def load_archive(artifact: bytes, limits: ArtifactLimits = USUAL) -> Any:
    """The estimator.

    Raises:
        UnsafeArtifact: it is a trap, or holds types beyond the trusted ones; nothing was constructed. Or what was
            constructed of trusted types is not sound.
        ModelUnusable: it is no skops file, or not one that can be loaded here.
        MemoryError
    """
    try:
        return _constructed(artifact, [*TRUSTED, *limits.trusted])
    except (ModelUnusable, MemoryError):
        raise
    except RecursionError as error:
        raise ModelUnusable("The artifact is refused: its schema.json is nested too deeply.") from error
    except Exception as error:
        raise ModelUnusable(
            f"The artifact is not a skops file that can be loaded: {type(error).__name__}: {error}"
        ) from error


def dump_archive(estimator: Any) -> bytes:
    """The artifact.

    Raises:
        ModelUnusable: the estimator has parts that skops cannot write.
    """
    try:
        return bytes(skops.io.dumps(estimator))
    except Exception as error:
        raise ModelUnusable(f"skops cannot write this {type(estimator).__name__}: {error}") from error


def _constructed(artifact: bytes, trusted: list[str]) -> Any:
    # What skops.io.loads does, in its steps: the tree of nodes is wanted for what was constructed.
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        if SCHEMA not in archive.namelist():
            raise ModelUnusable(f"The artifact is not a skops file that can be loaded: it has no {SCHEMA}.")
        if archive.getinfo(SCHEMA).file_size > MOST_SCHEMA_BYTES:
            raise ModelUnusable(f"The artifact is refused: its {SCHEMA} has more than {MOST_SCHEMA_BYTES} bytes.")
        schema, context = read_schema(archive)
        unknown = sorted(get_tree(schema, context, trusted=None).get_unsafe_set() - set(trusted))
        if unknown:
            raise _untrusted(unknown)
        schema, context = read_schema(archive)
        tree = get_tree(schema, context, trusted=trusted)
        audit_tree(tree, trusted=trusted)
        estimator = tree.construct()
    try:
        check_contents(node.construct() for node in _nodes(tree))
    except UnsafeArtifact as error:
        raise UnsafeArtifact(f"The artifact is refused: {error.message}.") from error
    return estimator


def _untrusted(unknown: list[str]) -> UnsafeArtifact:
    more = f" and {len(unknown) - NAMED_TYPES} more" if len(unknown) > NAMED_TYPES else ""
    return UnsafeArtifact(
        f"The artifact holds types that are not trusted: {', '.join(unknown[:NAMED_TYPES])}{more}. {WHAT_TO_DO}",
        errors=[
            {"code": "untrusted_type", "type": name, "message": f"The type {name} is not trusted."} for name in unknown
        ],
    )


def _nodes(tree: Node) -> Iterator[Node]:
    """Every node of a tree once, though some stand in several places."""
    seen: set[int] = set()
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, Node) and id(item) not in seen:
            seen.add(id(item))
            yield item
            waiting += item.children.values()
            if hasattr(item, "cached"):
                waiting.append(item.cached)
