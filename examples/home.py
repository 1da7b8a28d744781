"""`home`: the energy that a room uses within the next hour, from sensors of which some are silent.

Data: made by `simulate_readings`, whose docstring has the formula.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

TARGET_CELSIUS = {"off": -np.inf, "eco": 17.0, "comfort": 21.0, "boost": 24.0}
SENSORS = ["outdoor_celsius", "indoor_celsius", "humidity_percent", "sunlight_wm2"]
SAMPLE_ROWS = 20


def simulate_readings(n_rows: int, seed: int) -> tuple[pa.Table, NDArray[np.float64]]:
    """Readings as a table of n_rows, and the energy in kWh of shape (n_rows,).

    In kWh within one hour, with the target temperature of the heating mode:

        heating    = 0.08 (target - outdoor) + 0.3 (target - indoor) - 0.0015 sunlight - 0.1 occupants,
                     the first term times 1.8 while a window is open, each bracket at least 0,
                     the sum at least 0 (as always when the mode is "off") and at most 4
        ventilator = 0.25 above 65 % humidity
        appliances = 0.1 + 0.15 occupants, and 0.4 more from 17 to 22 o'clock if anybody is there
        energy     = heating + ventilator + appliances + Normal(0, 0.1), at least 0

    Sunlight is in W/m². Afterwards each of SENSORS falls silent (null) in 8 % of the rows, independently.
    """
    rng = np.random.default_rng(seed)
    hour = rng.integers(0, 24, n_rows)
    outdoor = 8 + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + rng.normal(0, 6, n_rows)
    indoor = rng.normal(19, 1.8, n_rows)
    humidity = np.clip(rng.normal(52, 12, n_rows), 15, 95)
    sunlight = np.maximum(0, np.sin(np.pi * (hour - 6) / 12)) * rng.uniform(50, 700, n_rows)
    occupants = np.minimum(rng.poisson(1.2, n_rows), 5)
    window_open = rng.random(n_rows) < 0.12
    mode = rng.choice(list(TARGET_CELSIUS), n_rows, p=[0.2, 0.3, 0.4, 0.1])

    target = np.array([TARGET_CELSIUS[name] for name in mode])
    lost = 0.08 * np.maximum(0, target - outdoor) * np.where(window_open, 1.8, 1.0)
    heating = np.clip(lost + 0.3 * np.maximum(0, target - indoor) - 0.0015 * sunlight - 0.1 * occupants, 0, 4)
    evening = (hour >= 17) & (hour < 22) & (occupants > 0)
    used = heating + 0.25 * (humidity > 65) + 0.1 + 0.15 * occupants + 0.4 * evening
    energy = np.maximum(0, used + rng.normal(0, 0.1, n_rows))

    sensors = {
        name: pa.array(np.round(values, 1), mask=rng.random(n_rows) < 0.08)
        for name, values in zip(SENSORS, (outdoor, indoor, humidity, sunlight), strict=True)
    }
    others = {"occupants": occupants, "window_open": window_open, "heating_mode": mode.tolist()}
    return pa.table({"hour": hour, **sensors, **others}), energy


def untrained() -> Pipeline:
    """A regressor from a table with the columns by name to kWh; null is missing; an unknown heating mode raises."""
    # A FunctionTransformer without a function hands the numbers on. "passthrough" would too, but scikit-learn 1.9
    # raises there when the columns come as a pyarrow table.
    columns = ColumnTransformer(
        [
            ("heating_mode", OneHotEncoder(sparse_output=False), ["heating_mode"]),
            ("numbers", FunctionTransformer(), ["hour", *SENSORS, "occupants", "window_open"]),
        ]
    )
    trees = HistGradientBoostingRegressor(max_iter=40, learning_rate=0.2, max_leaf_nodes=15, random_state=0)
    return Pipeline([("columns", columns), ("trees", trees)])


def train() -> tuple[Pipeline, pa.Table]:
    """The model, fitted on a pyarrow table, and the first readings as a sample."""
    readings, energy = simulate_readings(4000, seed=0)
    return untrained().fit(readings, energy), readings.slice(0, SAMPLE_ROWS)


def held_out_scores() -> tuple[float, float]:
    """Mean absolute error in kWh and R² on 2,000 new readings."""
    readings, energy = simulate_readings(2000, seed=1)
    predicted = train()[0].predict(readings)
    return float(mean_absolute_error(energy, predicted)), float(r2_score(energy, predicted))


if __name__ == "__main__":
    error, r2 = held_out_scores()
    print(f"home: mean absolute error {error:.3f} kWh, R² {r2:.3f} (2,000 new readings)")
