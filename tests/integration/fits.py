"""A regressor whose fits wait, raise or kill their process as files in a folder say, and are noted there."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge

from tests.wait import until

LONGEST_HOLD_SECONDS = 250.0
RAISES = 13.0  # an alpha with which it cannot be fitted
ALL_ROWS = 250  # fits of so many rows are on more than those of a fold


class Fits:
    """What a test sees of the fits, and how it makes trouble.

    Beside an alpha "all" means every fit, "final" the one of the best candidate on all rows, "load" each loading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def hold(self, alpha: float | str) -> None:
        """Have fits of this alpha wait."""
        (self.folder / f"hold-{alpha}").touch()

    def let_go(self) -> None:
        """Let them go on."""
        for path in self.folder.glob("hold-*"):
            path.unlink()

    def kill(self, alpha: float | str, *, once: bool = False) -> None:
        """Have fits of this alpha kill their process; only the first, or each."""
        (self.folder / f"{'once' if once else 'kill'}-{alpha}").touch()

    def forget(self) -> None:
        """Forget the fits so far."""
        (self.folder / "fits").unlink()

    def lines(self, kind: str) -> list[tuple[int, float, str]]:
        """Of the fits that have "begun" or "ended": process, alpha, and what tells the rows apart."""
        path = self.folder / "fits"
        if not path.exists():
            return []
        parts = [line.split() for line in path.read_text().splitlines()]
        return [(int(pid), float(alpha), rows) for told, pid, alpha, rows in parts if told == kind]


class Scripted(Ridge):  # type: ignore[misc]  # scikit-learn has no types
    """A ridge regression that does as its folder says."""

    def __init__(self, alpha: float = 1.0, folder: str = "") -> None:
        super().__init__(alpha=alpha)
        self.folder = folder

    def fit(self, rows: npt.NDArray[Any], target: npt.NDArray[Any], sample_weight: Any = None) -> "Scripted":
        """(n_rows, n_features) and (n_rows,) float64."""
        self._tell("begun", rows)
        self._obey(str(self.alpha))
        if len(rows) >= ALL_ROWS:
            self._obey("final")
        if self.alpha == RAISES:
            raise ValueError("this alpha is no good")
        super().fit(rows, target)
        self._tell("ended", rows)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Loaded from an artifact."""
        super().__setstate__(state)
        self._obey("load")

    def _tell(self, kind: str, rows: npt.NDArray[Any]) -> None:
        """One write, so that lines of several processes do not mix."""
        line = f"{kind} {os.getpid()} {self.alpha} {len(rows)}:{float(np.sum(rows)):.6f}\n"
        descriptor = os.open(Path(self.folder) / "fits", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _obey(self, what: str) -> None:
        folder = Path(self.folder)
        once = folder / f"once-{what}"
        if (folder / f"kill-{what}").exists() or once.exists():
            once.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        holds = [folder / f"hold-{one}" for one in (what, *(["all"] if what != "load" else []))]
        until(lambda: not any(path.exists() for path in holds), LONGEST_HOLD_SECONDS, "the fit may go on")
