"""Tensors of the Open Inference Protocol v2: read from JSON or bytes, and written as either.

Bytes are as the binary tensor data extension has them: little-endian, row-major, and of BYTES each element after its
length in four bytes.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.errors import RequestFault
from shared.errors import InvalidRequest, TooManyInstances
from shared.requests import fault

BYTES: Final = "BYTES"
# As `struct` calls them.
CODES: Final[Mapping[str, str]] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
DATATYPES: Final = (*CODES, BYTES)
FLOATS: Final = ("FP16", "FP32", "FP64")
# Types of JSON that need no closer look.
PLAIN: Final[Mapping[str, set[type]]] = {"BOOL": {bool}, BYTES: {str}, **{name: {int, float} for name in FLOATS}}
# Characters of what a client sent that an error shows.
SHOWN: Final = 100
LENGTH: Final = struct.Struct("<I")
# What is asked for in parameters and would change the answer, so that it is not passed over.
NOT_TAKEN: Final = ("shared_memory_region", "classification")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An array of any number of dimensions."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]  # flat, row-major; None is a missing value

    @property
    def place(self) -> str:
        """For people."""
        return f"Tensor {self.name[:SHOWN]}"


def read_tensors(
    inputs: Sequence[Mapping[str, Any]], binary: memoryview, *, most_rows: int, most_columns: int
) -> list[Tensor]:
    """The tensors of a request; values are made of bytes only if a job may have as many.

    Args:
        inputs: each {name, datatype, shape, data or parameters.binary_data_size}, whose types have been checked.
        binary: the bytes after the JSON, of those tensors that have them, in order.
        most_rows: that a job may have.
        most_columns: that the model takes.

    Raises:
        TooManyInstances, InvalidRequest
    """
    _check_size([about["shape"] for about in inputs], most_rows, most_columns)
    tensors: list[Tensor] = []
    for index, about in enumerate(inputs):
        pointer, name, datatype = f"/inputs/{index}", about["name"][:SHOWN], about["datatype"]
        shape, parameters = tuple(about["shape"]), about.get("parameters") or {}
        if datatype not in DATATYPES:
            message = f"Tensor {name} has the datatype {datatype[:40]}; there are {', '.join(DATATYPES)}."
            raise fault(f"{pointer}/datatype", "unknown_datatype", message)
        refuse(parameters, pointer, f"Tensor {name}")
        count, size = math.prod(shape), parameters.get("binary_data_size")
        if size is None:
            values = _from_json(name, datatype, shape, about.get("data"), f"{pointer}/data")
        else:
            if type(size) is not int or not 0 <= size <= len(binary) or about.get("data") is not None:
                message = (
                    f"Tensor {name} says that {_shown(size)} bytes of it follow the JSON, of which {len(binary)} are "
                    "left; it has no data within the JSON then."
                )
                raise fault(f"{pointer}/parameters/binary_data_size", "wrong_size", message)
            values = _from_bytes(name, datatype, count, binary[:size], f"{pointer}/parameters/binary_data_size")
            binary = binary[size:]
        tensors.append(Tensor(name=about["name"], datatype=datatype, shape=shape, values=values))
    if len(binary):
        message = f"{len(binary)} bytes after the JSON belong to no tensor; say binary_data_size in its parameters."
        raise fault("/inputs", "wrong_size", message)
    return tensors


def _check_size(shapes: Sequence[Sequence[int]], most_rows: int, most_columns: int) -> None:
    rows = max((shape[0] for shape in shapes if shape), default=0)
    if rows > most_rows:
        message = (
            f"{rows} rows are more than the {most_rows} that one prediction job may have; split them over several jobs."
        )
        raise TooManyInstances(
            message, errors=[{"pointer": "/inputs", "code": "too_many_instances", "message": message}]
        )
    values = sum(map(math.prod, shapes))
    if values > most_rows * most_columns:
        message = (
            f"The tensors have {values} values; the model takes {most_columns} for each of the {most_rows} rows that "
            "one prediction job may have."
        )
        raise fault("/inputs", "wrong_shape", message)


def refuse(parameters: Mapping[str, Any], pointer: str, what: str) -> None:
    """See that parameters of a tensor ask for nothing that would be left undone.

    Raises:
        InvalidRequest
    """
    for name in NOT_TAKEN:
        if parameters.get(name):
            raise fault(f"{pointer}/parameters/{name}", "not_supported", f"{what}: {name} is not supported here.")


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any, pointer: str) -> Sequence[Any]:
    values = _flat(data, shape)
    if values is None:
        message = (
            f"The data of tensor {name} must be an array of {math.prod(shape)} values, flat or nested as its shape "
            f"{list(shape)} says."
        )
        raise fault(pointer, "wrong_shape", message)
    kinds = set(map(type, values))
    if kinds <= PLAIN.get(datatype, set()):
        return values
    if kinds == {int} and datatype.lstrip("U").startswith("INT"):
        low, high = _bounds(datatype)
        if low <= min(values) and max(values) < high:
            return values
    checked = [_value(datatype, value) for value in values]
    bad = next((at for at, value in enumerate(checked) if value is Ellipsis), None)
    if bad is not None:
        message = f"Tensor {name} is {datatype}, but its value number {bad + 1} is none: {_shown(values[bad])}."
        raise fault(pointer, "wrong_datatype", message)
    return checked


def _flat(data: Any, shape: tuple[int, ...]) -> Sequence[Any] | None:
    """The values of nested or flat arrays in order; None if they are not of this shape."""
    if not isinstance(data, list):
        return None
    if len(data) == math.prod(shape) and not any(type(part) is list for part in data):
        return data
    level = data
    if not shape or len(level) != shape[0]:
        return None
    for length in shape[1:]:
        if any(type(part) is not list or len(part) != length for part in level):
            return None
        level = [value for part in level for value in part]
    return None if any(type(value) is list for value in level) else level


def _value(datatype: str, value: Any) -> Any:
    """A value of JSON as one of a datatype, or Ellipsis."""
    if value is None:
        return None
    if datatype == BYTES:
        return value if type(value) is str else ...
    if datatype == "BOOL":
        return value if type(value) is bool else ...
    if datatype in FLOATS:
        return value if type(value) in (float, int) else ...
    if type(value) is float and value.is_integer():
        value = int(value)
    low, high = _bounds(datatype)
    return value if type(value) is int and low <= value < high else ...


def _bounds(datatype: str) -> tuple[int, int]:
    """The least value of a datatype of whole numbers, and the one after its greatest."""
    bits = int(datatype.lstrip("UINT"))
    return (-(2 ** (bits - 1)), 2 ** (bits - 1)) if datatype.startswith("INT") else (0, 2**bits)


def _from_bytes(name: str, datatype: str, count: int, data: memoryview, pointer: str) -> Sequence[Any]:
    if datatype == BYTES:
        return _texts(name, count, data, pointer)
    size = struct.calcsize(f"<{CODES[datatype]}")
    if len(data) != count * size:
        message = f"Tensor {name} has {len(data)} bytes, but {count} values of {datatype} are {count * size}."
        raise fault(pointer, "wrong_size", message)
    values = struct.unpack(f"<{count}{CODES[datatype]}", data)
    # NaN is how a missing number is said in bytes.
    return [None if value != value else value for value in values] if datatype in FLOATS else values


def _texts(name: str, count: int, data: memoryview, pointer: str) -> Sequence[str]:
    """Elements of BYTES, which must be texts, since strings are what models take."""
    texts, at = [], 0
    try:
        while at < len(data):
            (length,) = LENGTH.unpack_from(data, at)
            at += LENGTH.size
            if at + length > len(data):
                raise ValueError("its last element is cut off")
            texts.append(str(data[at : at + length], "utf-8"))
            at += length
    except UnicodeDecodeError as error:
        message = f"Tensor {name}: its element number {len(texts) + 1} is not UTF-8, so it is no string."
        raise fault(pointer, "not_utf8", message) from error
    except (struct.error, ValueError) as error:
        message = f"Tensor {name}: its bytes are not elements that each follow their length in four bytes."
        raise fault(pointer, "wrong_size", message) from error
    if len(texts) != count:
        raise fault(pointer, "wrong_size", f"Tensor {name} has {len(texts)} elements; its shape says {count}.")
    return texts


def _shown(value: Any) -> str:
    return "an array" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)[:40]


def tensor_of(name: str, rows: Sequence[Any]) -> Tensor:
    """Predictions as a tensor whose first dimension is the rows.

    Args:
        name: of the tensor.
        rows: n_rows values as JSON says them: numbers, strings, truths, or arrays of them that are all of the same
            shape; null is a number that is not finite.

    Raises:
        InvalidRequest: they are no tensor.
    """
    shape, level = [len(rows)], list(rows)
    while level and any(type(value) is list for value in level):
        widths = {len(value) if type(value) is list else -1 for value in level}
        if len(widths) > 1:
            raise _no_tensor(name)
        shape.append(widths.pop())
        level = [part for value in level for part in value]
    return Tensor(name=name, datatype=_datatype(name, level), shape=tuple(shape), values=level)


def _datatype(name: str, values: Sequence[Any]) -> str:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return "INT64"
    if str in kinds and kinds <= {str, type(None)}:
        return BYTES
    if kinds <= {int, float, type(None)}:
        return "FP64"
    raise _no_tensor(name)


def _no_tensor(name: str) -> InvalidRequest:
    message = f"What {name} gives is no tensor: its parts differ in shape or in type. POST /jobs answers it as JSON."
    return fault("/outputs", "not_a_tensor", message)


def written(tensor: Tensor, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """A tensor as a member of `outputs`, and its bytes if it is to be written as such."""
    about: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if not binary:
        return about | {"data": list(tensor.values)}, b""
    if tensor.datatype == BYTES:
        texts = [(value or "").encode() for value in tensor.values]
        data = b"".join(part for text in texts for part in (LENGTH.pack(len(text)), text))
    else:
        values = tensor.values
        if tensor.datatype in FLOATS:
            values = [math.nan if value is None else value for value in values]
        data = struct.pack(f"<{len(values)}{CODES[tensor.datatype]}", *values)
    return about | {"parameters": {"binary_data_size": len(data)}}, data


def split_body(body: bytes, header_bytes: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body and the bytes after it, as Inference-Header-Content-Length says.

    Raises:
        RequestFault
    """
    if header_bytes is None:
        return body, memoryview(b"")
    length = int(header_bytes) if header_bytes.isascii() and header_bytes.isdigit() and len(header_bytes) < 12 else -1
    if not 0 < length <= len(body):
        detail = f"Inference-Header-Content-Length must be from 1 to the {len(body)} bytes of the body."
        raise RequestFault(400, "bad_header_length", detail)
    return body[:length], memoryview(body)[length:]
