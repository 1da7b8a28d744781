"""Whether a model may predict by a faster form: made, compared, measured; used only if equal and faster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa

from shared.signature import Signature
from worker.accelerated import Accelerated, Acceleration, margin_of
from worker.agreement import check_refusals, largest_difference
from worker.crossover import crossover
from worker.formats import digest
from worker.forms import Form, Refused
from worker.forms.graph import METHODS
from worker.forms.trees import TreesForm
from worker.probes import strange_rows, usual_rows
from worker.threads import one_thread
from worker.warned import quiet

Wanted = Literal["auto", "onnx"]
# Differences that are allowed, as a share of the largest prediction. A number of 32 bits has 7 digits and one of 64 has
# 16; sums over hundreds of terms in another order cost two of the first and, to be safe, seven of the second.
TOLERANCES: Final = {"float64": 1e-9, "float32": 1e-5}
# The terms are the same numbers, only added in another order: two sums of n of them differ by no more than 2 n * 2^-53
# of the sum of their sizes (Higham, Accuracy and Stability of Numerical Algorithms, 4.2): 2e-13 for 1,000 trees. Where
# a link makes the exponential of a sum, that grows by the size of the exponent.
TREES_TOLERANCE: Final = 1e-12
# A forest of that size takes minutes and gigabytes to convert.
MOST_ARTIFACT_BYTES: Final = 64 * 2**20
MOST_MEMORY_BYTES: Final = 256 * 2**20  # and one of that size, some 500 deep trees, half a minute to compare


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A form that may be used, if it is equal and faster."""

    form: Form
    precision: str
    tolerance: float
    described: dict[str, Any]  # what the manifest says of it alone
    files: dict[str, bytes] = field(default_factory=dict)


def accelerate(
    estimator: Any,
    signature: Signature,
    sample: pa.Table | None,
    *,
    wanted: Wanted,
    format: str,
    size_bytes: int = 0,
    memory_bytes: int = 0,
) -> Acceleration:
    """Make a faster form of an estimator and decide; whatever stands in the way is a reason, not an error.

    Args:
        estimator: a fitted scikit-learn estimator.
        signature: the one that was found for it.
        sample: representative rows, n_rows by n_features; the more, the more is compared.
        wanted: `auto` for a form of tree ensembles that is exact, `onnx` for a graph.
        format: of the version.
        size_bytes: of its artifact.
        memory_bytes: what that unpacks to; 0 where it is not known.
    """
    described: dict[str, Any] = {"wanted": wanted, "used": False}
    obstacle = _obstacle(signature, sample, wanted, format, size_bytes, memory_bytes)
    if obstacle is not None:
        return Acceleration(described=described | {"reason": obstacle})
    last = Refused("")
    for make in _makers(estimator, signature, wanted):
        try:
            candidate = make()
            assert sample is not None  # noqa: S101  # it would have been the obstacle
            with quiet(), one_thread():
                return _decided(described, estimator, signature, sample, candidate)
        except Refused as refused:
            # 64 bits first: a reason that is about numbers says more than one about what cannot be converted.
            last = refused if refused.numbers or not last.numbers else last
    return Acceleration(described=described | {"reason": str(last)} | last.numbers)


def _makers(estimator: Any, signature: Signature, wanted: Wanted) -> Iterator[Callable[[], Candidate]]:
    if wanted == "auto":
        yield lambda: _of_trees(estimator)
    else:
        yield lambda: _graph(estimator, signature, "float64")
        yield lambda: _graph(estimator, signature, "float32")


def _of_trees(estimator: Any) -> Candidate:
    form = TreesForm(estimator)
    about = {"size_bytes": form.memory_bytes()}
    return Candidate(form=form, precision="float64", tolerance=TREES_TOLERANCE, described=about)


def _graph(estimator: Any, signature: Signature, precision: Literal["float64", "float32"]) -> Candidate:
    # Here, since the converter takes a second to import and is used for this alone.
    from worker.forms.conversion import converted

    graph, form = converted(estimator, signature, precision)
    sha256 = digest(graph)
    name = f"onnx-{sha256[:16]}"
    about = {"sha256": sha256, "artifact": name, "size_bytes": len(graph)}
    return Candidate(
        form=form, precision=precision, tolerance=TOLERANCES[precision], described=about,
        files={name: graph},
    )  # fmt: skip


def _obstacle(
    signature: Signature, sample: pa.Table | None, wanted: Wanted, format: str, size_bytes: int, memory_bytes: int
) -> str | None:
    """Why no form is made at all; None if one is tried."""
    if format == "onnx":
        return "It is an ONNX graph already."
    if sample is None or sample.num_rows == 0:
        return "There is no sample to compare it on."
    if not set(METHODS) & set(signature.methods):
        return "It has neither predict nor predict_proba."
    if wanted == "auto":
        much = max(size_bytes, memory_bytes) > MOST_MEMORY_BYTES
        return f"It takes more than {MOST_MEMORY_BYTES // 2**20} MiB of memory already." if much else None
    if size_bytes > MOST_ARTIFACT_BYTES:
        return f"The artifact has more than {MOST_ARTIFACT_BYTES // 2**20} MiB."
    if signature.container == "text":
        return "It takes texts, which ONNX cuts into words otherwise."
    return None


def _decided(
    described: dict[str, Any], estimator: Any, signature: Signature, sample: pa.Table, candidate: Candidate
) -> Acceleration:
    form, tolerance = candidate.form, candidate.tolerance
    methods = [method for method in form.methods if method in signature.methods]
    rows = usual_rows(signature, sample)
    if not methods or not rows:
        raise Refused(
            "The faster form has none of the model's methods." if rows else "Every row of the sample has gaps."
        )
    numbers: dict[str, Any] = {"precision": candidate.precision, "tolerance": tolerance, "rows": len(rows)}

    def quick(max_difference: float) -> Accelerated:
        margin = margin_of(form, tolerance=tolerance, max_difference=max_difference)
        return Accelerated(estimator, form, methods, margin=margin, up_to_rows=None)

    # With as narrow a margin as it may get: so it decides every label that it ever will.
    numbers["max_difference"] = difference = largest_difference(
        estimator, quick(0.0), signature, rows, methods=methods, tolerance=tolerance
    )
    check_refusals(estimator, quick(difference), signature, strange_rows(signature, sample), methods[0])
    found = crossover(estimator, quick(difference), signature, rows, methods)
    numbers |= {f"speedup_{size}": round(speedup, 2) for size, speedup in found.speedups.items()}
    one = found.speedups[1]
    if not found.faster:
        raise Refused(f"It is equal, but not faster: {one:.2f} times as fast for one row.", **numbers)
    equal = f"Equal on {len(rows)} rows" + (" to the last bit" if form.adds_alike and difference == 0 else "")
    reason = f"{equal}, and {one:.1f} times as fast for one" + (
        "."
        if found.up_to_rows is None
        else f"; not for {list(found.speedups)[-1]}, so calls of more than {found.up_to_rows} do without it."
    )
    about = {"used": True, "reason": reason, "form": form.name, "methods": methods, "up_to_rows": found.up_to_rows}
    return Acceleration(described=described | about | numbers | candidate.described, files=candidate.files)
