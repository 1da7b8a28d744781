"""Where files lie: a local path or a place in an S3 bucket, as its URL says."""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
UNFINISHED = re.compile(r"#[0-9]+$")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or a folder; two URLs of the same place are equal."""

    bucket: str | None  # None: on this machine
    path: str  # without a slash at either end, with nothing to be decoded or resolved lexically

    @classmethod
    def parse(cls, url: str) -> "Place":
        """The place of file:///path (percent-encoded, RFC 8089) or s3://bucket/key (as it is, as S3 tools take it).

        Raises:
            ValueError: it is neither, or it could be read in two ways; the message says what is expected.
        """
        scheme, separator, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        if not separator or scheme not in ("file", "s3"):
            raise ValueError("must be file:///path or s3://bucket/prefix")
        if scheme == "s3":
            return cls(_bucket(authority), _key(path))
        if authority not in ("", "localhost"):
            raise ValueError("must have three slashes after file:, since it names a path on this machine")
        return cls(None, _local(path))

    @property
    def url(self) -> str:
        """As `parse` takes it."""
        return f"file:///{quote(self.path)}" if self.bucket is None else f"s3://{self.bucket}/{self.path}"

    def is_below(self, prefix: "Place") -> bool:
        """Whether it is the other one or lies in it."""
        return self.bucket == prefix.bucket and (
            not prefix.path or self.path == prefix.path or self.path.startswith(f"{prefix.path}/")
        )


def _bucket(name: str) -> str:
    if not BUCKET.fullmatch(name):
        raise ValueError("must name a bucket: s3://bucket/prefix")
    return name


def _key(path: str) -> str:
    key = path.removesuffix("/")
    # Servers and proxies differ in whether they resolve these, so what was checked might not be what is read.
    if "%2e" in path.lower() or (key and not {"", ".", ".."}.isdisjoint(key.split("/"))):
        raise ValueError("must have no '.', '..', '//' or '%2e' in its path")
    return _printable(key)


def _local(path: str) -> str:
    decoded = unquote(path, errors="strict")
    if ".." in decoded.split("/"):
        raise ValueError("must have no '..' in its path")
    path = posixpath.normpath(f"/{decoded}").strip("/")
    if UNFINISHED.search(path):
        raise ValueError("must not end in '#' and a number, as the names of unfinished files do")
    return _printable(path)


def _printable(path: str) -> str:
    if CONTROL.search(path):
        raise ValueError("must have no control characters in its path")
    return path
