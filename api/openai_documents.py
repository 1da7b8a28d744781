"""Bodies of the facade of OpenAI's API; times are whole seconds since 1970."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.requests import JobOptions


class OpenAIFile(BaseModel):
    """A file of lines, or what a batch made of one."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class OpenAIFileList(BaseModel):
    """Files that were sent, newest first."""

    object: Literal["list"] = "list"
    data: list[OpenAIFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class OpenAIDeleted(BaseModel):
    """A file that was removed."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class OpenAIBatchRequest(JobOptions):
    """A batch over a file of lines; beside OpenAI's own fields it may say what every job may."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {
                "input_file_id": "01a202dc-b4c8-7072-abbb-000000000000",
                "endpoint": "/v1/predictions",
                "completion_window": "24h",
            }
        },
    )

    input_file_id: Annotated[str, Field(max_length=100, description="of a file that was sent to /v1/files")]
    endpoint: Annotated[Literal["/v1/predictions"], Field(description="the url of every line")]
    completion_window: Annotated[
        str, Field(pattern="^[1-9][0-9]{0,2}h$", description="how long it may take, in hours: 1h to 168h")
    ]
    deadline_seconds: Annotated[None, Field(description="said by completion_window")] = None


class OpenAICounts(BaseModel):
    """Lines: all (0 until they are counted), with a prediction, without one."""

    total: int
    completed: int
    failed: int


class OpenAIBatchError(BaseModel):
    """Why a batch failed as a whole."""

    code: str
    message: str
    line: int | None
    param: str | None


class OpenAIBatchErrors(BaseModel):
    """Why a batch failed as a whole."""

    object: Literal["list"] = "list"
    data: list[OpenAIBatchError]


class OpenAIBatch(BaseModel):
    """A job over a file of lines, as OpenAI shows a batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    errors: OpenAIBatchErrors | None
    created_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    expires_at: int
    request_counts: OpenAICounts
    metadata: dict[str, Any] | None


class OpenAIBatchList(BaseModel):
    """Batches, newest first."""

    object: Literal["list"] = "list"
    data: list[OpenAIBatch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class OpenAIModel(BaseModel):
    """A model, by the name that lines ask for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModelList(BaseModel):
    """Every model that has a version in production."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]
