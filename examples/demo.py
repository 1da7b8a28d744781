"""The demo models, in the order in which they are registered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sklearn.base import BaseEstimator

from examples import home, linear, recommend, support


@dataclass(frozen=True, kw_only=True)
class Demo:
    name: str
    description: str
    train: Callable[[], tuple[BaseEstimator, pa.Table]]
    """The fitted estimator, the same at every call, and 5 to 20 rows of input, with the columns in feature order."""
    request: dict[str, Any]
    """A body for `POST /jobs` that succeeds."""


def demos() -> tuple[Demo, ...]:
    return (
        Demo(
            name="linear",
            description="Progression of diabetes from body mass index, blood pressure and triglycerides.",
            train=linear.train,
            request={"model": "linear", "instances": [[0.06, 0.02, 0.04]]},
        ),
        Demo(
            name="support",
            description="What a customer wants, from the text of the message.",
            train=support.train,
            request={
                "model": "support",
                "instances": [{"text": "Where is my parcel? It should have been here on Monday."}],
            },
        ),
        Demo(
            name="recommend",
            description="The items that a customer is likely to buy next, from the counts of what was bought so far.",
            train=recommend.train,
            request={
                "model": "recommend",
                # Beans, filters and a frother of "coffee", and one packet of seeds of "garden".
                "instances": [[3, 2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
                "top_k": 3,
            },
        ),
        Demo(
            name="home",
            description="Energy in kWh that a room uses within the next hour, from its sensors.",
            train=home.train,
            request={
                "model": "home",
                "instances": [
                    {
                        "hour": 19,
                        "outdoor_celsius": -2.5,
                        "indoor_celsius": 19.5,
                        "humidity_percent": None,
                        "sunlight_wm2": 0.0,
                        "occupants": 2,
                        "window_open": False,
                        "heating_mode": "comfort",
                    }
                ],
            },
        ),
    )
