"""The rows of a request in any of the forms that are taken, as the same list of rows."""

from typing import Any, Final

from api.wire import JobRequest
from shared.requests import fault
from shared.signature import Locate, escaped

FORMS: Final = ("instances", "dataframe_split", "dataframe_records", "inputs")


def instances_of(request: JobRequest) -> tuple[list[Any], str, Locate | None]:
    """The rows in whichever form they came, where they are in the body, and where a value is if that is special.

    Raises:
        InvalidRequest: none of the forms is there, or several, or one that is not made as it should be.
    """
    forms = {name: value for name in FORMS if (value := getattr(request, name)) is not None}
    if len(forms) != 1:
        found = f"found {' and '.join(forms)}" if forms else "found none of them"
        raise fault("/instances", "rows_missing", f"Send the rows as exactly one of {', '.join(FORMS)}; {found}.")
    ((name, value),) = forms.items()
    pointer = f"/{name}"
    if name == "dataframe_split":
        return _split(value)
    if name == "inputs" and isinstance(value, dict):
        return _columns(value)
    if not isinstance(value, list):
        raise fault(pointer, "not_rows", f"{name} must be an array of rows.")
    if name == "dataframe_records":
        for index, row in enumerate(value):
            if not isinstance(row, dict):
                raise fault(f"{pointer}/{index}", "not_a_row", f"Row {index + 1} of dataframe_records is no object.")
    return value, pointer, None


def _split(frame: Any) -> tuple[list[Any], str, Locate]:
    """{"columns": [...], "data": [[...], ...]}, as pandas' `to_dict("split")` writes it, as rows."""
    place = "/dataframe_split"
    columns, data = (frame.get("columns"), frame.get("data")) if isinstance(frame, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list):
        raise fault(place, "not_rows", "dataframe_split must be an object with the arrays columns and data.")
    positions = {column: index for index, column in enumerate(columns) if isinstance(column, str)}
    if len(positions) != len(columns):
        message = "The columns of dataframe_split must be strings, each of them once."
        raise fault(f"{place}/columns", "bad_columns", message)
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            found = f"has {len(row)} values" if isinstance(row, list) else "is no array"
            message = f"Row {index + 1} {found}; there are {len(columns)} columns."
            raise fault(f"{place}/data/{index}", "wrong_number_of_values", message)

    def locate(index: int, key: str | int | None) -> str:
        if isinstance(key, str) and key not in positions:
            return f"{place}/columns"
        return f"{place}/data/{index}" + ("" if key is None else f"/{positions[str(key)]}")

    return [dict(zip(columns, row, strict=True)) for row in data], f"{place}/data", locate


def _columns(columns: dict[str, Any]) -> tuple[list[Any], str, Locate]:
    """{column: [values]} as rows."""
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        message = "inputs as an object must hold an array of the same length for each column."
        raise fault("/inputs", "ragged_columns", message)

    def locate(index: int, key: str | int | None) -> str:
        return "/inputs" if key is None or key not in columns else f"/inputs/{escaped(key)}/{index}"

    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows, "/inputs", locate
