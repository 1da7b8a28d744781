"""What must hold of the contents of a skops file beside its types: no index in it leads beyond an array.

skops audits types. Trees, neighbours, vocabularies, sparse matrices and support vector machines hold indices and sizes
that compiled code follows without looking at the bounds, so a crafted file of trusted types could crash the process
that predicts, or read memory that is none of its business (https://github.com/scikit-learn/scikit-learn/pull/34558).
These are the places that are known; nobody has proved that there are no others.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import scipy.sparse
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.neighbors import BallTree, KDTree
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm._base import BaseLibSVM, BaseSVC
from sklearn.tree._tree import Tree

from shared.errors import UnsafeArtifact

LEAF: Final = -1  # sklearn.tree._tree.TREE_LEAF
CATEGORIES: Final = (
    256  # bits of a set of categories; sklearn.ensemble._hist_gradient_boosting.common.X_BITSET_INNER_DTYPE
)
WORDS: Final = 8  # of such a set, 32 bits each


def check_contents(objects: Iterable[Any]) -> None:
    """See that all objects that a skops file was made into are sound.

    Raises:
        UnsafeArtifact: an index leads beyond its array, or an object would read files that rows name.
    """
    found = list(objects)
    for item in found:
        try:
            _check(item)
        except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
            raise UnsafeArtifact(f"its {type(item).__name__} is not sound: {error}") from error
    for item in found:
        if isinstance(item, BaseGradientBoosting) and hasattr(item, "estimators_"):
            _check_boosting(item)


def _check(item: Any) -> None:
    match item:
        case Tree():
            _check_tree(item)
        case TreePredictor():
            _check_predictor(item)
        case _BinMapper():
            _check_bins(item)
        case KDTree() | BallTree():
            _check_neighbour_tree(item)
        case NeighborsBase() if hasattr(item, "_fit_X"):
            _check_neighbours(item)
        case OneHotEncoder() if hasattr(item, "categories_"):
            _check_one_hot(item)
        case BaseLibSVM() if hasattr(item, "support_"):
            _check_machine(item)
        case _ if scipy.sparse.issparse(item):
            item.check_format(full_check=True) if item.format in ("csr", "csc", "bsr") else _require(
                item.format in ("coo", "dia", "lil", "dok"), item, f"the format {item.format}"
            )
    if getattr(item, "input", "content") in ("filename", "file"):
        raise UnsafeArtifact(f"its {type(item).__name__} reads the files that rows name (input={item.input!r})")
    if getattr(item, "memory", None) is not None:
        raise UnsafeArtifact(f"its {type(item).__name__} keeps files in a folder of its own (memory={item.memory!r})")
    _check_width(item)
    if isinstance(words := getattr(item, "vocabulary_", None), dict):
        # Their numbers are columns of a sparse matrix, which is made without a look at them.
        _require(_within(list(words.values()), len(words)), item, "its vocabulary has a column that is none")


def _require(sound: Any, item: Any, what: str) -> None:
    if not sound:
        raise UnsafeArtifact(f"its {type(item).__name__} is not sound: {what}")


def _within(values: Any, stop: int) -> bool:
    """Whether all of some whole numbers are from 0 up to a limit."""
    array = np.asarray(values)
    return array.dtype.kind in "iu" and (array.size == 0 or (int(array.min()) >= 0 and int(array.max()) < stop))


def _check_tree(tree: Any) -> None:
    nodes, count = tree.__getstate__()["nodes"], tree.node_count
    own = np.arange(count)
    inner = nodes["left_child"] != LEAF
    _require(count >= 1 and len(nodes) == count, tree, "its number of nodes")
    for side in ("left_child", "right_child"):
        # A child comes after its parent, so that no way through the tree is endless.
        children = nodes[side][inner]
        _require(_within(children, count) and (children > own[inner]).all(), tree, f"a {side} that is no node after it")
    _require(_within(nodes["feature"][inner], tree.n_features), tree, "a feature that is none")


def _check_predictor(predictor: Any) -> None:
    nodes, own = predictor.nodes, np.arange(len(predictor.nodes))
    inner = nodes["is_leaf"] == 0
    _require(nodes.ndim == 1 and len(nodes) >= 1, predictor, "its number of nodes")
    for side in ("left", "right"):
        children = nodes[side][inner]
        _require(_within(children, len(nodes)) and (children > own[inner]).all(), predictor, f"a child on the {side}")
    sets = predictor.raw_left_cat_bitsets
    _require(sets.ndim == 2 and sets.shape[1] == WORDS, predictor, "its sets of categories")
    _require(_within(nodes["bitset_idx"][inner & (nodes["is_categorical"] == 1)], len(sets)), predictor, "a set")
    _require(_within(nodes["feature_idx"][inner], 2**31), predictor, "a feature that is none")


def _check_bins(mapper: Any) -> None:
    for number in np.flatnonzero(getattr(mapper, "is_categorical_", ())):
        known = np.asarray(mapper.bin_thresholds_[number])
        _require(((known >= 0) & (known < CATEGORIES)).all(), mapper, "a category that is none")


def _check_neighbour_tree(tree: Any) -> None:
    data, order, nodes, bounds, _, _, n_nodes, *_, weights = tree.__getstate__()
    rows, width = data.shape
    _require(order.shape == (rows,) and _within(order, rows), tree, "a row that is none")
    _require(len(nodes) == n_nodes >= 1 and bounds.shape[1:] == (n_nodes, width), tree, "its number of nodes")
    _require(
        _within(nodes["idx_start"], rows + 1)
        and _within(nodes["idx_end"], rows + 1)
        and (nodes["idx_start"] <= nodes["idx_end"]).all(),
        tree,
        "a node of other rows",
    )
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    _require(_within(2 * inner + 2, n_nodes), tree, "a node without children")
    _require(weights is None or len(weights) == rows, tree, "its weights")


def _check_neighbours(item: Any) -> None:
    """A neighbour is a row that was learned, and its label a class."""
    rows, width = item._fit_X.shape
    _require(rows == item.n_samples_fit_, item, "its number of rows")
    _require(width == getattr(item, "n_features_in_", width), item, "its number of features")
    if item._fit_method in ("kd_tree", "ball_tree"):
        tree = item._tree
        _require(isinstance(tree, (KDTree, BallTree)) and tree.data.shape == (rows, width), item, "its tree")
    if hasattr(item, "_y"):
        _require(len(item._y) == rows, item, "its labels are not those of its rows")
    if hasattr(item, "classes_"):
        several = item.outputs_2d_
        _require(item._y.ndim == (2 if several else 1), item, "its labels")
        columns = zip(item._y.T, item.classes_, strict=True) if several else [(item._y, item.classes_)]
        for labels, classes in columns:
            _require(_within(labels, len(classes)), item, "a label that is none")


def _check_one_hot(item: Any) -> None:
    """Each category has a column, beside those that are dropped and those that share one for being rare."""
    widths = [len(categories) for categories in item.categories_]
    shared = item._default_to_infrequent_mappings if item._infrequent_enabled else [None] * len(widths)
    dropped = item._drop_idx_after_grouping if item._drop_idx_after_grouping is not None else [None] * len(widths)
    columns = []
    for width, mapping, without in zip(widths, shared, dropped, strict=True):
        count = width if mapping is None else len(set(np.asarray(mapping).tolist()))
        _require(mapping is None or (len(mapping) == width and _within(mapping, count)), item, "its rare categories")
        _require(without is None or 0 <= without < count, item, "its dropped categories")
        columns.append(count - (without is not None))
    _require(list(item._n_features_outs) == columns, item, "its number of columns")


def _check_machine(machine: Any) -> None:
    vectors, support = machine.support_vectors_, machine.support_
    count, classes = len(support), len(machine._n_support)
    _require((machine._n_support >= 0).all() and machine.n_support_.sum() == count, machine, "its support vectors")
    pairs = classes * (classes - 1) // 2 if isinstance(machine, BaseSVC) else 1
    coefficients = max(classes - 1, 1) if isinstance(machine, BaseSVC) else 1
    _require(machine._dual_coef_.shape == (coefficients, count), machine, "its coefficients")
    _require(machine._intercept_.size == pairs, machine, "its intercepts")
    _require({machine._probA.size, machine._probB.size} <= {0, pairs}, machine, "its probabilities")
    if machine.kernel != "precomputed" and not callable(machine.kernel):
        _require(vectors.shape == (count, machine.n_features_in_), machine, "the shape of its support vectors")
    else:
        _require(_within(support, machine.shape_fit_[0]), machine, "a row that is none")


def _check_width(item: Any) -> None:
    """The trees that an estimator follows by itself, and its cluster centers, know no other features than it."""
    # Without n_features_in_ scikit-learn would take rows of any width.
    if hasattr(item, "cluster_centers_"):
        _require(item.cluster_centers_.shape[1:] == (item.n_features_in_,), item, "its cluster centers")
    if isinstance(getattr(item, "tree_", None), Tree):
        _require(item.tree_.n_features == item.n_features_in_, item, "its number of features")
    for predictor in (part for parts in getattr(item, "_predictors", ()) for part in parts):
        nodes = predictor.nodes
        _require(_within(nodes["feature_idx"][nodes["is_leaf"] == 0], item.n_features_in_), item, "a feature")


def _check_boosting(item: Any) -> None:
    trees = item.estimators_
    _require(trees.ndim == 2, item, "its trees")
    for tree in trees.ravel():
        _require(isinstance(tree.tree_, Tree) and tree.tree_.n_features == item.n_features_in_, item, "a tree")
    # Each column of trees adds to a column of what the first guess gives.
    try:
        guess = item._raw_predict_init(np.zeros((1, item.n_features_in_), np.float32))
    except Exception as error:
        raise UnsafeArtifact(f"its {type(item).__name__} is not sound: {error}") from error
    _require(guess.shape == (1, trees.shape[1]), item, "its first guess")
