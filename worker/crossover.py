"""Up to how many rows of a call a faster form is faster: measured, since it depends on model and machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.signature import Signature
from worker.accelerated import Accelerated
from worker.container import pack
from worker.probes import Row

# Rows of one call: a single request, micro-batches, larger requests, slices of a file.
SIZES: Final = (1, 4, 16, 64, 256, 1024, 4096, 16_384)
FEWEST_REPEATS: Final = 3
MOST_REPEATS: Final = 9
LONG_SECONDS: Final = 0.05  # after which it is not repeated more than FEWEST_REPEATS


@dataclass(frozen=True, slots=True)
class Crossover:
    """How many times as fast the form is for each size that was measured: up to the first for which it is slower."""

    speedups: dict[int, float]

    @property
    def faster(self) -> bool:
        """For one row, without which it is not used."""
        return self.speedups[SIZES[0]] > 1

    @property
    def up_to_rows(self) -> int | None:
        """The largest size for which it is; None if it is for all."""
        fast = [size for size, speedup in self.speedups.items() if speedup > 1]
        return None if len(fast) == len(SIZES) else fast[-1]


def crossover(
    estimator: Any, quick: Accelerated, signature: Signature, rows: list[Row], methods: Sequence[str]
) -> Crossover:
    """Measure until it is slower.

    Args:
        estimator: the model itself.
        quick: the same with its faster form.
        signature: the model's.
        rows: that both take; repeated where a size is larger.
        methods: of which the one counts that gains least.
    """
    speedups: dict[int, float] = {}
    for size in SIZES:
        packed = pack(signature, [rows[number % len(rows)] for number in range(size)])
        speedups[size] = min(_speedup(estimator, quick, method, packed) for method in methods)
        if speedups[size] <= 1:
            break
    return Crossover(speedups)


def _speedup(estimator: Any, quick: Accelerated, method: str, packed: Any) -> float:
    """By the fastest of several calls each, in turns: what else runs on the machine only ever slows them."""
    own, other = getattr(estimator, method), getattr(quick, method)
    slow: list[float] = []
    fast: list[float] = []
    while len(slow) < FEWEST_REPEATS or (len(slow) < MOST_REPEATS and sum(slow) + sum(fast) < LONG_SECONDS):
        slow.append(_seconds(own, packed))
        fast.append(_seconds(other, packed))
    return min(slow) / min(fast)


def _seconds(predict: Any, packed: Any) -> float:
    began = time.perf_counter()
    predict(packed)
    return time.perf_counter() - began
