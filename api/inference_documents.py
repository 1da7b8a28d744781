"""Bodies of the Open Inference Protocol v2: requests are validated with these models, and the document shows them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class ServerDocument(BaseModel):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class LiveDocument(BaseModel):
    """Whether the process answers."""

    live: bool


class ReadyDocument(BaseModel):
    """Whether predictions can be made; of a model with its name."""

    ready: bool
    name: str | None = None


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a version takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorRequest(BaseModel):
    """A tensor: its data here, or `parameters.binary_data_size` bytes after the JSON."""

    model_config = ConfigDict(strict=True)

    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=8)]
    data: Annotated[list[Any] | None, Field(description="flat, or nested as the shape says")] = None
    parameters: dict[str, Any] | None = None


class OutputRequest(BaseModel):
    """A tensor that is wanted: it is called as the method that gives it."""

    model_config = ConfigDict(strict=True)

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """Rows as tensors: one of all features, or one of each."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "example": {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 3], "data": [0.06, 0.02, 0.04]}]}
        },
    )

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[TensorRequest], Field(min_length=1, max_length=10_000)]
    outputs: Annotated[list[OutputRequest] | None, Field(max_length=100)] = None


class InferDocument(BaseModel):
    """Predictions as tensors."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[dict[str, Any]]
