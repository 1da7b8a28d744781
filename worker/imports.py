"""What workers import before they fork, so that their processes share the memory and start at once."""

import os
from collections.abc import Iterable

from shared.queue import CONTROL, ONLINE, WEBHOOKS


def import_for(queues: Iterable[str], *, tracing: bool) -> None:
    """Import what jobs of these queues need soon; without any of them that is nothing.

    Whoever calls this never predicts: OpenMP used before a fork makes the children hang.
    """
    # Read when OpenMP is loaded: threads of a fit that wait for one another would spin otherwise, and where others
    # want the processor too they would hold each other up for many times as long as the fit takes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What is loaded after a process has begun, such as scikit-learn's OpenMP with the first file, knows of no limit
    # that was set then. A fit takes as many threads as it may have, whatever this says.
    for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    if tracing:
        import shared.otlp  # noqa: F401
    if set(queues) - {CONTROL, WEBHOOKS}:
        import worker.preload
        import worker.services  # noqa: F401
    # What takes longest is only for those who wait for a prediction. Where files and trainings have a worker by itself
    # they can wait a second more for their first one, and where there are none, that is a second and 100 MB less.
    if ONLINE in queues:
        import sklearn.pipeline  # noqa: F401
