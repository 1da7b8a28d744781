"""Who may change a model: its owner; where it has none, whoever has the scope."""

from dataclasses import replace

from api.access import Caller
from shared.api_keys import Scope
from shared.errors import Forbidden, LimitReached
from shared.job import Spec
from shared.registry import Registry


def is_own(caller: Caller, owner: str | None) -> bool:
    """Whether a caller may treat what an owner has as theirs; None: nobody's."""
    return owner in (None, caller.owner) or caller.may(Scope.ADMIN)


def check_change(registry: Registry, caller: Caller, name: str, *, makes: bool = False) -> None:
    """See that a caller may change a model, or if it `makes` one that is not there yet may have one more.

    Raises:
        Forbidden: it is another owner's.
        LimitReached: it would be one model more than the caller may have.
        StoreUnavailable
    """
    exists, owner = registry.owner(name)
    if exists:
        if not is_own(caller, owner):
            raise Forbidden(f"The model {name[:100]} belongs to another owner, who alone may change it.")
        return
    most = caller.limits.models
    if makes and most and (had := registry.count_owned(caller.owner)) >= most:
        raise LimitReached(
            f"You have {had} models, and may have {most}; delete one, or have the limit raised.",
            limit="models",
            retry_after_seconds=120,
        )


def check_rows(registry: Registry, caller: Caller, name: str) -> None:
    """See that a caller may train with the rows that a model's versions were trained on, which are kept beside them.

    Raises:
        Forbidden: the model is another owner's.
        StoreUnavailable
    """
    _, owner = registry.owner(name)
    if not is_own(caller, owner):
        raise Forbidden(f"The rows of the model {name[:100]} belong to another owner; send combine=replace.")


def signed(spec: Spec, caller: Caller) -> Spec:
    """The spec of a job that changes a model, with what its worker must know of who submitted it.

    The script that registers a version looks once more whose the model is, and how many models there are, since
    that may have changed after the submit (register.lua).
    """
    return replace(
        spec, submitted_by=named(caller), any_model=caller.may(Scope.ADMIN), most_models=caller.limits.models
    )


def named(caller: Caller) -> str:
    """A caller as histories name it; empty without a key."""
    return "" if caller.key_id is None else caller.who
