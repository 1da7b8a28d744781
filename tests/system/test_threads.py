"""How many threads a prediction may use, in a worker as it is started by `make run`."""

from pathlib import Path

import joblib
import numpy as np

from tests.processes import Http
from tests.system.estimators import Threads
from tests.system.service import Service, scored_file
from tests.system.test_onnx_models import column, csv_of, registered


def test_a_prediction_has_one_thread_whatever_an_estimator_asks_for(service: Service, http: Http, folder: Path) -> None:
    path, sample, rows = folder / "threads.joblib", folder / "threads.csv", np.ones((3, 2))
    joblib.dump(Threads(), path)
    sample.write_text(csv_of(rows, "a,b"))
    name = registered(service, path, "--sample", str(sample))

    job = http.done(http.submit(name, rows.tolist())["id"])
    scored = scored_file(http, csv_of(rows, "a,b").encode(), model=name)

    assert job["result"]["predictions"] == [[1, 1]] * 3
    assert [column(http, scored, f"prediction_{place}") for place in (0, 1)] == [["1"] * 3] * 2
