"""What a train job learns from and how, and what a registration checks: fixed when the job is accepted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from shared.batch import Input, load_input
from shared.schema import known

Promote = Literal["auto", "manual", "never"]
Combine = Literal["replace", "append"]

# As worker/training/metrics.py has them.
REGRESSION_METRICS: Final = ("rmse", "mae", "r2")
CLASSIFICATION_METRICS: Final = ("log_loss", "accuracy", "f1", "roc_auc")

# The alias of a challenger that passed its gate and waits for somebody to promote it.
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a challenger is made: a clone of a version's own pipeline, with other parameters where they are given."""

    base: str | None = None  # the version that is cloned, as name@version or name@alias; None: the champion
    params: dict[str, Any] | None = None
    param_grid: dict[str, Any] | list[dict[str, Any]] | None = None
    distributions: dict[str, Any] | None = None
    folds: int = 5  # of a search
    budget: int | None = None  # most parameter sets that a search tries; None: the whole grid
    seed: int = 0

    @property
    def searches(self) -> bool:
        """Whether parameters are chosen by cross-validation."""
        return self.param_grid is not None or self.distributions is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What a challenger must reach on the held-out rows; see worker/training/gate.py."""

    metric: str | None = None  # None: rmse; of a classifier log_loss, or accuracy without probabilities
    min_improvement: float = 0.0
    max_regression: float = 0.0
    threshold: float | None = None  # for a first version, which has no champion


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """A training."""

    input: Input
    target: str
    sample_weight: str | None = None
    group: str | None = None  # rows of one group are never on both sides of a split
    time: str | None = None  # the newest rows are held out
    held_out: float = 0.2  # part of the rows that champion and challenger are compared on
    combine: Combine = "replace"  # append: with the rows that the champion was trained on
    recipe: Recipe = field(default_factory=Recipe)
    gate: Gate = field(default_factory=Gate)
    promote: Promote = "auto"
    max_failed_rows: int | None = None
    max_failed_fraction: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "TrainOptions":
        """From JSON, as `to_dict` wrote it."""
        more = {
            "input": load_input(raw["input"]),
            "recipe": Recipe(**known(Recipe, raw["recipe"])),
            "gate": Gate(**known(Gate, raw["gate"])),
        }
        return cls(**(known(cls, raw) | more))


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisterOptions:
    """An artifact that was sent, and is to be tried before it becomes a version."""

    format: str
    key: str  # where the artifact lies
    sample: Input | None = None  # rows that it is tried on
    alias: str | None = None  # to point at the new version; None: production, if the model has no version yet
    accelerate: Literal["auto", "onnx", "off"] = "auto"
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "RegisterOptions":
        """From JSON, as `to_dict` wrote it."""
        sample = raw["sample"]
        return cls(**(known(cls, raw) | {"sample": None if sample is None else load_input(sample)}))
