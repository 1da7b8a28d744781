"""A check of ours for schemathesis: a status is documented by itself, and not only as some error."""

from typing import Any

import schemathesis
from schemathesis.generation.meta import REQUEST_SHAPE_PROBES, coverage_scenario

# Of a path or a method that is no operation of the document, to which a value of a path may lead.
NO_OPERATION = (404, 405)


@schemathesis.check
def documented_status(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """See that the operation names the status."""
    if coverage_scenario(case) in REQUEST_SHAPE_PROBES:
        return True
    known = set(case.operation.responses.status_codes) - {"default"}
    if str(response.status_code) not in known and response.status_code not in NO_OPERATION:
        raise AssertionError(f"{response.status_code} is not documented, only {', '.join(sorted(known))}")
    return None
