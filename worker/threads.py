"""How many threads a prediction may use: one, since the service has a process for each core."""

import contextlib
from collections.abc import Iterator

import joblib
import threadpoolctl


def use_sequential() -> None:
    """Let no estimator of this thread use its `n_jobs`, which for a single row cost as much as the prediction.

    A number that an estimator says itself is overruled only by a backend that is sequential.
    """
    joblib.parallel_config(backend="sequential")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """What a process that predicts has: one thread for linear algebra and OpenMP, and none for `n_jobs`."""
    with threadpoolctl.threadpool_limits(1), joblib.parallel_config(backend="sequential"):
        yield
