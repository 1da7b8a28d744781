"""Faster forms of an estimator: what each is made of, which rows it takes, and what it says of them."""

from typing import Any, Final, Literal, Protocol

FormName = Literal["onnx", "treelite"]
LONGEST_REASON: Final = 300


class Refused(Exception):
    """A faster form is not used; its message says why, and `numbers` what was measured."""

    def __init__(self, reason: str, **numbers: float) -> None:
        super().__init__(reason)
        self.numbers = numbers


def said(error: Exception) -> str:
    """The kind of an error and its message, in a line that is not too long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_REASON]}"


class Form(Protocol):
    """Predicts beside an estimator, for the rows that it takes."""

    @property
    def name(self) -> FormName:
        """What a manifest calls it."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those under whose releases it was compared; others may round otherwise."""

    @property
    def methods(self) -> tuple[str, ...]:
        """That it has; one with `predict_proba` is a classifier."""

    @property
    def adds_alike(self) -> bool:
        """Whether it adds up in the estimator's own order and precision: equal is equal to the last bit."""

    def takes(self, rows: Any) -> Any | None:
        """The rows as `answer` wants them; None for what is the estimator's own: missing and huge values.

        Raises whatever a step of the estimator raises for them.
        """

    def answer(self, method: str, taken: Any) -> Any:
        """What the estimator's method would say of rows that it takes."""
