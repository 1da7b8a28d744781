"""Tags of answers that are made anew each time: who asks again and again is told that nothing has changed."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from flask import Request, Response

from api.headers import json_response


def tagged(document: Mapping[str, Any], request: Request) -> Response:
    """A document with the digest of its bytes as its ETag, or 304 if the client has it (RFC 9110, section 13.1.2)."""
    body = orjson.dumps(document)
    tag = hashlib.sha256(body).hexdigest()[:32]
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers={"ETag": f'"{tag}"'})
    response = json_response(body)
    response.headers["ETag"] = f'"{tag}"'
    return response
