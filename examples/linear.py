"""`linear`: progression of diabetes from three measurements, by ordinary least squares.

Data: `sklearn.datasets.load_diabetes`, 442 patients; B. Efron, T. Hastie, I. Johnstone and R. Tibshirani,
"Least Angle Regression", Annals of Statistics 32 (2004) 407-499, section 1, table 1.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score

FEATURES = {"x1": "bmi", "x2": "bp", "x3": "s5"}
SAMPLE_ROWS = 10


def load_patients() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x of shape (442, 3), y of shape (442,).

    x1 is the body mass index, x2 the mean blood pressure, x3 probably the logarithm of serum triglycerides, each
    centred and scaled to a sum of squares of 1 over the patients: -0.13 to 0.17. y is a measure of the progression
    of the disease one year later, 25 to 346, without a unit.
    """
    data = load_diabetes()
    columns = [data.feature_names.index(original) for original in FEATURES.values()]
    return data.data[:, columns], data.target


def train() -> tuple[LinearRegression, pa.Table]:
    """The model, fitted on a plain array without column names, and the first patients as a sample."""
    x, y = load_patients()
    sample = pa.table(dict(zip(FEATURES, x[:SAMPLE_ROWS].T, strict=True)))
    return LinearRegression().fit(x, y), sample


def held_out_r2() -> float:
    """Mean R² over five folds, each predicted by a model that has not seen it."""
    x, y = load_patients()
    folds = KFold(n_splits=5, shuffle=True, random_state=0)
    return float(cross_val_score(LinearRegression(), x, y, cv=folds, scoring="r2").mean())


if __name__ == "__main__":
    print(f"linear: R² {held_out_r2():.3f} (5-fold cross-validation, 442 patients)")
