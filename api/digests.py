"""What a client says that its body hashes to: Repr-Digest and Content-Digest (RFC 9530), Content-MD5 (RFC 1864)."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from werkzeug.datastructures import Headers

from api.errors import RequestFault

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


ALGORITHMS: Final[Mapping[str, Callable[[], "Hash"]]] = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
# What a client may ask for besides; not in the two headers of RFC 9530, where it is deprecated (section 5).
MD5: Final = partial(hashlib.md5, usedforsecurity=False)


class Digests:
    """The announced digests of a body, compared with those of the bytes that came.

    Nothing is hashed that was not announced. Algorithms that are not known are ignored (RFC 9530, section 2).
    """

    def __init__(self, headers: Headers) -> None:
        """Take what the headers announce.

        Raises:
            RequestFault: a digest is none.
        """
        self._hashes: dict[str, Hash] = {}
        self._expected: list[tuple[str, str, bytes]] = []  # header, algorithm, digest
        for header in ("Repr-Digest", "Content-Digest"):
            for member in filter(None, map(str.strip, headers.get(header, "").split(","))):
                algorithm, _, value = member.partition("=")
                if algorithm not in ALGORITHMS:
                    continue
                value = value.partition(";")[0].strip()
                if len(value) < 2 or not value.startswith(":") or not value.endswith(":"):
                    raise _malformed(header, f"{algorithm}=:<base64>:")
                self._expect(header, algorithm, ALGORITHMS[algorithm], value[1:-1])
        if "Content-MD5" in headers:
            self._expect("Content-MD5", "md5", MD5, headers["Content-MD5"].strip())

    def _expect(self, header: str, algorithm: str, make: Callable[[], "Hash"], encoded: str) -> None:
        hashed = self._hashes.setdefault(algorithm, make())
        try:
            digest = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) != hashed.digest_size:
            raise _malformed(header, f"the {hashed.digest_size} bytes of {algorithm} as base64")
        self._expected.append((header, algorithm, digest))

    @property
    def announced(self) -> bool:
        """Whether there is anything to compare with, so that a body that was cut off would be noticed."""
        return bool(self._expected)

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        for hashed in self._hashes.values():
            hashed.update(block)

    def check(self) -> None:
        """Compare, after the last byte.

        Raises:
            RequestFault: the bytes are not those that were announced.
        """
        for header, algorithm, digest in self._expected:
            came = self._hashes[algorithm].digest()
            if came != digest:
                announced, found = (base64.b64encode(value).decode() for value in (digest, came))
                detail = f"{header} announced the {algorithm} {announced}, but what came has {found}; send it again."
                raise RequestFault(400, "digest_mismatch", detail)


def _malformed(header: str, expected: str) -> RequestFault:
    return RequestFault(400, "bad_digest", f"{header} is not well-formed; it must be {expected}.")
