"""Rows that the demo models take."""

LINEAR = [0.06, 0.02, 0.04]
OTHER_LINEAR = [-0.03, 0.01, 0.0]
LINEAR_RECORD = {"x1": 0.06, "x2": 0.02, "x3": 0.04}
TEXT = "Where is my parcel?"
OTHER_TEXT = "I was charged twice this month"
HOME = {
    "hour": 19,
    "outdoor_celsius": -2.5,
    "indoor_celsius": 19.5,
    "humidity_percent": None,
    "sunlight_wm2": 0.0,
    "occupants": 2,
    "window_open": False,
    "heating_mode": "comfort",
}
# The model raises for this one.
REFUSED_HOME = HOME | {"heating_mode": "tropical"}

LINEAR_ROWS = [LINEAR, OTHER_LINEAR]
LINEAR_RECORDS = [dict(zip(("x1", "x2", "x3"), row, strict=True)) for row in LINEAR_ROWS]
# The same in other forms, with the columns in another order.
TURNED_RECORDS = [dict(reversed(record.items())) for record in LINEAR_RECORDS]
TURNED_COLUMNS = {name: [record[name] for record in LINEAR_RECORDS] for name in ("x3", "x1", "x2")}
TURNED_SPLIT = {"columns": ["x3", "x1", "x2"], "data": [[x3, x1, x2] for x1, x2, x3 in LINEAR_ROWS]}
