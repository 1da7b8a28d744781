"""Whose a job, a file or a webhook is: the team that a key was made for."""

import re
from typing import Final

from shared.errors import InvalidRequest

# Of keys that name no other, and of everybody while there are no keys.
DEFAULT_OWNER: Final = "default"
# Nobody is called so: all owners, to those who may look at all of them.
EVERYBODY: Final = "*"
OWNER: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_owner(name: str) -> None:
    """See that somebody can be called so.

    Raises:
        InvalidRequest
    """
    if not OWNER.fullmatch(name):
        message = "An owner has up to 63 small letters, digits, dots, dashes and underscores, such as team-a."
        raise InvalidRequest(message, errors=[{"pointer": "/owner", "code": "bad_owner", "message": message}])
