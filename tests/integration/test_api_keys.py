"""Keys for the API against a real Redis: what is kept, how long each is valid, and the command on the server."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.commands import root
from deploy.keys import check_open
from shared.api_keys import TOKEN, ApiKeys, Wish, digest_of
from shared.connection import Connections
from shared.errors import BadSetting, InvalidRequest, KeyNeeded, KeyNotFound, ServiceError, StoreUnavailable
from shared.keys import Keys
from shared.schema import SCHEMA
from shared.settings import Settings
from tests.integration.apis import Api
from tests.processes import RedisServer, clean_environment
from tests.wait import until

NEVER = "0" * 12
WISH = Wish(name="nightly scoring", owner="team-a", scopes=["jobs:write", "jobs:read"])


@pytest.fixture
def api_keys(settings: Settings, redis_server: RedisServer) -> ApiKeys:
    """The keys of a service that has none."""
    return ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))


def everything(client: Any) -> bytes:
    """Every key of Redis with all that it holds."""
    found = []
    for key in client.scan_iter():
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"string": client.get,
            b"zset": lambda key: client.zrange(key, 0, -1),
        }
        found.append(repr((key, read[client.type(key)](key))).encode())
    return b"\n".join(found)


# Making and using one


def test_a_new_key_is_what_was_wanted_and_lets_in(api_keys: ApiKeys) -> None:
    key, token = api_keys.create(WISH)

    used = api_keys.authenticate(token)

    assert (key.name, key.owner, sorted(key.scopes)) == ("nightly scoring", "team-a", ["jobs:read", "jobs:write"])
    assert (key.expires_at, key.last_used_at, key.revoked_at, dict(key.limits)) == (None, None, None, {})
    assert used is not None
    assert (used.id, used.owner, used.scopes) == (key.id, key.owner, key.scopes)


def test_a_token_says_what_it_is_and_which_key_it_belongs_to(api_keys: ApiKeys) -> None:
    key, token = api_keys.create(WISH)

    parsed = TOKEN.fullmatch(token)

    assert parsed is not None
    assert parsed[1] == key.id


def test_a_key_that_a_newer_version_made_lets_nobody_in_before_that_version_answers(
    make_api: Callable[..., Api], redis_server: RedisServer
) -> None:
    api = make_api()
    client = api.client_of("team-a")
    (key,) = api.services.api_keys.all()
    before = client.get("/models").status_code
    redis_server.client.hset(Keys("foretell").api_key(key.id), "schema", SCHEMA + 1)

    until(lambda: client.get("/models").status_code != 200, what="the key is looked up anew")
    answer = client.get("/models")

    assert before == 200
    assert (answer.status_code, (answer.json or {})["code"]) == (503, "newer_schema")
    assert answer.headers["Retry-After"]


def test_a_key_of_a_release_without_schemas_is_of_the_first(api_keys: ApiKeys, redis_server: RedisServer) -> None:
    key, token = api_keys.create(WISH)
    redis_server.client.hdel(Keys("foretell").api_key(key.id), "schema")

    found = api_keys.authenticate(token)

    assert found is not None
    assert found.id == key.id


def test_no_two_keys_are_alike(api_keys: ApiKeys) -> None:
    made = [api_keys.create(WISH) for _ in range(20)]

    assert len({key.id for key, _ in made}) == len({token.split("_", 2)[2] for _, token in made}) == 20


def other_secret(token: str) -> str:
    """The same key's id with a secret that differs in one bit's worth."""
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda token: "", id="nothing"),
        pytest.param(lambda token: "ft_", id="a-beginning"),
        pytest.param(other_secret, id="another-secret"),
        pytest.param(lambda token: token + "A", id="too-long"),
        pytest.param(lambda token: token[:-1], id="too-short"),
        pytest.param(lambda token: token.upper(), id="in-capitals"),
        pytest.param(lambda token: token + "\n", id="with-a-line-break"),
        pytest.param(lambda token: token.replace("ft_", "ft:"), id="another-form"),
        pytest.param(lambda token: f"ft_{NEVER}_{token.rpartition('_')[2]}", id="another-id"),
        pytest.param(lambda token: digest_of(token), id="its-digest"),
        pytest.param(lambda token: f"ft_{token[3:15]}_{digest_of(token)[:43]}", id="its-digest-as-secret"),
        pytest.param(lambda token: "é" * 59, id="not-ascii"),
        pytest.param(lambda token: "\udcff" * 59, id="not-text"),
        pytest.param(lambda token: "ft_*_" + "A" * 43, id="a-pattern"),
    ],
)
def test_what_is_not_exactly_the_token_lets_nobody_in(api_keys: ApiKeys, spoil: Callable[[str], str]) -> None:
    _, token = api_keys.create(WISH)

    assert api_keys.authenticate(spoil(token)) is None
    assert api_keys.authenticate(token) is not None


def test_redis_holds_hashes_of_keys_and_never_a_secret(api_keys: ApiKeys, redis_server: RedisServer) -> None:
    key, token = api_keys.create(WISH)
    api_keys.authenticate(token)
    _, second = api_keys.rotate(key.id, timedelta(days=1))
    api_keys.authenticate(second)

    held = everything(redis_server.client)

    for one in (token, second):
        secret = one.split("_", 2)[2].encode()  # which may hold "_" itself
        assert secret not in held
        assert secret[:12] not in held
        assert digest_of(one).encode() in held


def test_a_use_is_noted_to_the_minute(api_keys: ApiKeys, redis_server: RedisServer, settings: Settings) -> None:
    key, token = api_keys.create(WISH)
    record = Keys(settings.redis_prefix).api_key(key.id)

    api_keys.authenticate(token)
    first = redis_server.client.hget(record, "used")
    api_keys.authenticate(token)
    second = redis_server.client.hget(record, "used")
    redis_server.client.hincrby(record, "used", -60_001)
    api_keys.authenticate(token)
    third = redis_server.client.hget(record, "used")

    assert first == second
    assert int(third) >= int(first)
    used = api_keys.get(key.id).last_used_at
    assert used is not None
    assert abs(datetime.now(UTC) - used) < timedelta(minutes=5)


def test_the_use_of_a_key_that_was_deleted_in_that_moment_leaves_nothing_of_it(
    api_keys: ApiKeys, redis_server: RedisServer, settings: Settings
) -> None:
    key, _ = api_keys.create(WISH)
    api_keys.create(WISH)
    api_keys.revoke(key.id)
    api_keys.delete(key.id)

    api_keys._run("key_used", key.id)  # as authenticate does, which had read it before

    assert not redis_server.client.exists(Keys(settings.redis_prefix).api_key(key.id))
    with pytest.raises(KeyNotFound):
        api_keys.get(key.id)


def test_a_full_redis_lets_in_without_noting_it(api_keys: ApiKeys, redis_server: RedisServer) -> None:
    key, token = api_keys.create(WISH)
    redis_server.client.config_set("maxmemory", 1)

    used = api_keys.authenticate(token)

    assert used is not None
    assert api_keys.get(key.id).last_used_at is None


def test_keys_are_listed_newest_first_without_their_secrets(api_keys: ApiKeys) -> None:
    made = [api_keys.create(Wish(name=f"key {number}", scopes=["admin"])) for number in range(3)]

    listed = api_keys.all()

    assert {key.id for key in listed} == {key.id for key, _ in made}
    assert [key.created_at for key in listed] == sorted((key.created_at for key in listed), reverse=True)
    assert all(token.split("_", 2)[2] not in repr(listed) for _, token in made)


# Wishes


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        pytest.param({"name": ""}, "/name", id="no-name"),
        pytest.param({"name": " "}, "/name", id="a-blank-name"),
        pytest.param({"name": "a\nb"}, "/name", id="a-name-of-two-lines"),
        pytest.param({"name": "x" * 101}, "/name", id="a-long-name"),
        pytest.param({"owner": ""}, "/owner", id="no-owner"),
        pytest.param({"owner": "Team A"}, "/owner", id="capitals"),
        pytest.param({"owner": "a:b"}, "/owner", id="a-colon"),
        pytest.param({"owner": "a" * 64}, "/owner", id="a-long-owner"),
        pytest.param({"owner": "-a"}, "/owner", id="a-dash-first"),
        pytest.param({"owner": "a\n"}, "/owner", id="a-line-break"),
        pytest.param({"scopes": []}, "/scopes", id="no-scope"),
        pytest.param({"scopes": ["jobs:*"]}, "/scopes", id="an-unknown-scope"),
        pytest.param({"lifetime": timedelta(0)}, "/expires", id="no-time"),
        pytest.param({"lifetime": timedelta(days=40_000)}, "/expires", id="a-century"),
        pytest.param({"limits": {"jobs": 1}}, "/limits/jobs", id="an-unknown-limit"),
        pytest.param({"limits": {"models": -1}}, "/limits/models", id="a-negative-limit"),
        pytest.param({"limits": {"models": True}}, "/limits/models", id="a-limit-that-is-no-number"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_the_name_of_what_is_wrong(wish: dict[str, Any], pointer: str) -> None:
    usual: dict[str, Any] = {"name": "k", "scopes": ["admin"]}

    with pytest.raises(InvalidRequest) as refused:
        Wish(**(usual | wish))

    assert [error["pointer"] for error in refused.value.errors] == [pointer]


def test_a_key_may_have_limits_of_its_own(api_keys: ApiKeys) -> None:
    limits = {"waiting_jobs": 10, "models": 0}

    key, token = api_keys.create(Wish(name="k", scopes=["admin"], limits=limits))

    used = api_keys.authenticate(token)
    assert used is not None
    assert dict(used.limits) == dict(key.limits) == limits


# The end of one


def test_a_key_that_has_expired_lets_nobody_in_and_cannot_be_rotated(api_keys: ApiKeys) -> None:
    key, token = api_keys.create(Wish(name="k", scopes=["admin"], lifetime=timedelta(milliseconds=300)))
    assert key.expires_at is not None

    until(lambda: api_keys.authenticate(token) is None, 10, "the key has expired")

    assert api_keys.get(key.id).state(datetime.now(UTC)) == "expired"
    with pytest.raises(KeyNotFound):
        api_keys.rotate(key.id, timedelta(0))


def test_a_rotated_key_has_both_secrets_for_a_while_and_the_new_one_for_good(api_keys: ApiKeys) -> None:
    key, first = api_keys.create(WISH)

    rotated, second = api_keys.rotate(key.id, timedelta(milliseconds=500))

    assert (rotated.id, rotated.owner, rotated.scopes) == (key.id, key.owner, key.scopes)
    assert first != second
    assert api_keys.authenticate(second) is not None
    until(lambda: api_keys.authenticate(first) is None, 10, "the overlap is over")
    assert api_keys.authenticate(second) is not None


def test_both_secrets_let_in_during_the_overlap(api_keys: ApiKeys) -> None:
    key, first = api_keys.create(WISH)

    _, second = api_keys.rotate(key.id, timedelta(hours=1))

    assert [found.id for token in (first, second) if (found := api_keys.authenticate(token))] == [key.id, key.id]


def test_a_second_rotation_ends_the_first_secret(api_keys: ApiKeys) -> None:
    key, first = api_keys.create(WISH)
    _, second = api_keys.rotate(key.id, timedelta(hours=1))

    _, third = api_keys.rotate(key.id, timedelta(hours=1))

    assert [api_keys.authenticate(token) is not None for token in (first, second, third)] == [False, True, True]


def test_a_rotation_without_overlap_ends_the_secret_before_at_once(api_keys: ApiKeys) -> None:
    key, first = api_keys.create(WISH)

    _, second = api_keys.rotate(key.id, timedelta(0))

    assert api_keys.authenticate(first) is None
    assert api_keys.authenticate(second) is not None


def test_a_revoked_key_lets_nobody_in_with_any_of_its_secrets(api_keys: ApiKeys) -> None:
    key, first = api_keys.create(WISH)
    _, second = api_keys.rotate(key.id, timedelta(hours=1))

    api_keys.revoke(key.id)
    ended = api_keys.get(key.id).revoked_at
    api_keys.revoke(key.id)

    assert [api_keys.authenticate(token) for token in (first, second)] == [None, None]
    assert api_keys.get(key.id).state(datetime.now(UTC)) == "revoked"
    assert api_keys.get(key.id).revoked_at == ended
    with pytest.raises(KeyNotFound):
        api_keys.rotate(key.id, timedelta(0))


def test_a_key_is_deleted_only_when_it_is_not_valid_and_not_the_last(api_keys: ApiKeys) -> None:
    key, _ = api_keys.create(WISH)
    last, _ = api_keys.create(WISH)

    with pytest.raises(KeyNeeded, match="revoke it first"):
        api_keys.delete(key.id)
    api_keys.revoke(key.id)
    api_keys.delete(key.id)
    api_keys.revoke(last.id)
    with pytest.raises(KeyNeeded, match="last key"):
        api_keys.delete(last.id)

    assert [one.id for one in api_keys.all()] == [last.id]
    assert api_keys.exist()


@pytest.mark.parametrize("act", ["get", "revoke", "delete", "rotate"])
@pytest.mark.parametrize("key_id", [NEVER, "", "*", "x" * 5000, "é"])
def test_a_key_that_never_was_is_not_found(api_keys: ApiKeys, act: str, key_id: str) -> None:
    api_keys.create(WISH)
    more = [timedelta(0)] if act == "rotate" else []

    with pytest.raises(KeyNotFound) as refused:
        getattr(api_keys, act)(key_id, *more)

    assert len(refused.value.message) < 200


# Redis


def test_keys_are_there_after_a_restart_of_redis(
    api_keys: ApiKeys, settings: Settings, redis_server: RedisServer
) -> None:
    _, token = api_keys.create(WISH)

    redis_server.kill()
    again = RedisServer(settings)
    try:
        found = until(lambda: api_keys.authenticate(token), 10, "the key lets in")
    finally:
        again.stop()

    assert found is not None
    assert found.owner == "team-a"


def test_nobody_is_let_in_while_redis_is_away(api_keys: ApiKeys, redis_server: RedisServer) -> None:
    _, token = api_keys.create(WISH)
    redis_server.stop()

    with pytest.raises(StoreUnavailable):
        api_keys.authenticate(token)
    with pytest.raises(StoreUnavailable):
        api_keys.authenticate("nonsense")
    with pytest.raises(StoreUnavailable):
        api_keys.exist()


# An address that others can reach


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104  # looked at, not bound
def test_an_address_that_others_can_reach_needs_a_key(api_keys: ApiKeys, settings: Settings, host: str) -> None:
    there = settings.model_copy(update={"host": host})

    with pytest.raises(BadSetting, match="python -m deploy keys create NAME --scope admin"):
        check_open(there)
    check_open(there.model_copy(update={"allow_access_without_keys": True}))
    key, _ = api_keys.create(WISH)
    check_open(there)
    api_keys.revoke(key.id)  # nobody gets in, which is safe
    check_open(there)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_a_loopback_address_needs_none(api_keys: ApiKeys, settings: Settings, host: str) -> None:
    there = settings.model_copy(update={"host": host})

    check_open(there)

    assert there.is_local
    assert not api_keys.exist()


# The command


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(settings: Settings, api_keys: ApiKeys) -> Command:
    """Run `python -m deploy keys`."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy", "keys", *words],
            env=clean_environment(settings),
            cwd=root(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_key_made_on_the_server_is_shown_once_and_lets_in(command: Command, api_keys: ApiKeys) -> None:
    done = command(
        *("create", "nightly scoring", "--owner", "team-a", "--scope", "jobs:read", "--scope", "jobs:write"),
        *("--expires", "90d", "--limit", "waiting_jobs=10"),
    )
    listed = command("list")

    described, note, token = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert note == "Keep it: nobody can show it again."
    key = api_keys.authenticate(token)
    assert key is not None
    assert (key.owner, sorted(key.scopes), dict(key.limits)) == (
        "team-a",
        ["jobs:read", "jobs:write"],
        {"waiting_jobs": 10},
    )
    assert key.expires_at is not None
    assert timedelta(days=89) < key.expires_at - datetime.now(UTC) <= timedelta(days=90)
    assert described.startswith(f"{key.id}  nightly scoring of team-a: jobs:read jobs:write; active, made ")
    assert described.endswith("never used, waiting_jobs 10")
    assert listed.stdout.count("\n") == 1
    assert token not in listed.stdout


def test_a_key_is_rotated_revoked_and_deleted_on_the_server(command: Command, api_keys: ApiKeys) -> None:
    api_keys.create(WISH)
    key, first = api_keys.create(WISH)

    rotated = command("rotate", key.id, "--overlap", "0s")
    second = rotated.stdout.splitlines()[-1]
    assert (rotated.returncode, api_keys.authenticate(first)) == (0, None)
    assert api_keys.authenticate(second) is not None
    assert re.search(r"^The secret before is valid until .+ UTC\.$", rotated.stdout, re.MULTILINE)

    revoked = command("revoke", key.id)
    assert (revoked.returncode, api_keys.authenticate(second)) == (0, None)
    assert revoked.stdout == f"{key.id} is revoked; every API process refuses it within a second.\n"

    assert command("delete", key.id).stdout == f"{key.id} is deleted\n"
    assert [one.id for one in api_keys.all()] != []
    with pytest.raises(ServiceError):
        api_keys.get(key.id)


def test_a_service_without_keys_is_told_so(command: Command) -> None:
    done = command("list")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("There are no keys: the service asks nobody for one")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("revoke", NEVER), 1, "There is no key", id="unknown"),
        pytest.param(("create", "k"), 1, "A key needs a scope", id="no-scope"),
        pytest.param(("create", "k", "--scope", "admin", "--owner", "Team A"), 1, "An owner has", id="no-owner"),
        pytest.param(("create", "k", "--scope", "root"), 2, "invalid choice", id="unknown-scope"),
        pytest.param(("create", "k", "--scope", "admin", "--expires", "soon"), 2, "is no time", id="no-time"),
        pytest.param(("create", "k", "--scope", "admin", "--limit", "jobs=1"), 2, "is no limit", id="no-limit"),
        pytest.param((), 2, "required", id="no-command"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    command: Command, api_keys: ApiKeys, words: tuple[str, ...], code: int, said: str
) -> None:
    done = command(*words)

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not api_keys.exist()


def test_a_secret_does_not_stay_valid_for_ever(api_keys: ApiKeys) -> None:
    key, token = api_keys.create(WISH)

    with pytest.raises(InvalidRequest, match="at most 365 days"):
        api_keys.rotate(key.id, timedelta(days=366))

    assert api_keys.authenticate(token) is not None
