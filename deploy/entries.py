"""The keys of a Redis as the commands that make them: what a backup holds, whatever server and prefix they go to.

The file is a sequence of commands as they go over the wire (RESP, "Redis serialization protocol specification"), so
`valkey-cli --pipe` reads it too. Times to live are points in time (PEXPIREAT).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import hiredis

from shared.errors import BackupDamaged
from shared.keys import MOMENTARY

PAGE: Final = 500
# Members of one command.
MOST_MEMBERS: Final = 1000
BLOCK_BYTES: Final = 2**20
COMMANDS: Final = frozenset({b"SET", b"HSET", b"SADD", b"RPUSH", b"ZADD", b"XADD", b"PEXPIREAT"})

Command = Sequence[Any]


def pages(client: Any, pattern: str) -> Iterator[list[bytes]]:
    """The keys that match, in pages; each once, as long as nothing changes."""
    cursor = -1
    while cursor:
        cursor, keys = client.scan(max(cursor, 0), match=pattern, count=PAGE)
        if keys:
            yield keys


def lasting(keys: Sequence[bytes], base: str) -> list[bytes]:
    """Those of the keys that are about more than what processes do at the moment."""
    momentary = tuple(f"{base}{name}".encode() for name in MOMENTARY)
    return [key for key in keys if not key.startswith(momentary)]


def commands(client: Any, base: str) -> Iterator[Command]:
    """What makes all keys under a base, but for those of the moment."""
    for page in pages(client, f"{base}*"):
        keys = lasting(page, base)
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.type(key)
            pipeline.pexpiretime(key)
        known = pipeline.execute()
        kinds = dict(zip(keys, known[::2], strict=True))
        reads = [key for key in keys if kinds[key] in READ]
        for key in reads:
            READ[kinds[key]](pipeline, key)
        values = dict(zip(reads, pipeline.execute(), strict=True))
        for key, expires in zip(keys, known[1::2], strict=True):
            yield from _made(client, key, kinds[key], values.get(key))
            if expires > 0:
                yield ("PEXPIREAT", key, expires)


READ: Final = {
    b"string": lambda pipeline, key: pipeline.get(key),
    b"hash": lambda pipeline, key: pipeline.hgetall(key),
    b"set": lambda pipeline, key: pipeline.smembers(key),
    b"list": lambda pipeline, key: pipeline.lrange(key, 0, -1),
    b"zset": lambda pipeline, key: pipeline.zrange(key, 0, -1, withscores=True),
}


def _made(client: Any, key: bytes, kind: bytes, value: Any) -> Iterator[Command]:
    """What makes one key; nothing if it has expired since it was found."""
    if kind == b"stream":
        yield from _stream(client, key)
    elif kind == b"string" and value is not None:
        yield ("SET", key, value)
    elif kind == b"hash":
        for some in batched(value.items(), MOST_MEMBERS):
            yield ("HSET", key, *(part for pair in some for part in pair))
    elif kind == b"zset":
        for some in batched(value, MOST_MEMBERS):
            yield ("ZADD", key, *(part for member, score in some for part in (repr(score), member)))
    elif kind in (b"set", b"list"):
        for some in batched(value, MOST_MEMBERS):
            yield ("SADD" if kind == b"set" else "RPUSH", key, *some)


def _stream(client: Any, key: bytes) -> Iterator[Command]:
    start = "-"
    while entries := client.xrange(key, start, "+", count=MOST_MEMBERS):
        for entry, fields in entries:
            yield ("XADD", key, entry, *(part for pair in fields.items() for part in pair))
        start = f"({entries[-1][0].decode()}"


def batched(members: Iterable[Any], most: int) -> Iterator[tuple[Any, ...]]:
    """Members in groups, as itertools has it from Python 3.12 on."""
    left = iter(members)
    while some := tuple(islice(left, most)):
        yield some


def packed(command: Command) -> bytes:
    """A command as it goes over the wire."""
    raw: bytes = hiredis.pack_command(tuple(command))
    return raw


def read_commands(file: BinaryIO, path: Path, base: str) -> Iterator[list[bytes]]:
    """The commands of a file, each about a key under a base.

    Raises:
        BackupDamaged: there is anything else in it.
    """
    reader, start = hiredis.Reader(), base.encode()
    try:
        while block := file.read(BLOCK_BYTES):
            reader.feed(block)
            while (command := reader.gets()) is not False:
                if not isinstance(command, list) or command[0] not in COMMANDS or not command[1].startswith(start):
                    raise BackupDamaged(f"{path} holds what no backup holds.")
                yield command
    except (hiredis.HiredisError, IndexError, TypeError) as error:
        raise BackupDamaged(f"{path} cannot be read: {error}") from error
