"""Settings: what is refused and in which words, and how they reach a child process."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadSetting
from shared.settings import Settings, environment_of, load_settings, reference

# man 7 unix: sun_path has 108 bytes, the last of them zero.
LONGEST_SOCKET_PATH = 107


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("FORETELL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        pytest.param("FORETELL_PROT", "FORETELL_PORT", id="letters-swapped"),
        pytest.param("FORETELL_REDIS_URI", "FORETELL_REDIS_URL", id="another-word"),
        pytest.param("FORETELL_WORKER", "FORETELL_WORKERS", id="singular"),
        pytest.param("FORETELL_MODEL_CACHE_GB", "FORETELL_MODEL_CACHE_MB", id="another-unit"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_name_that_was_meant(variable: str, meant: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({variable: "1"})

    assert caught.value.message == f"{variable} is not a setting; did you mean {meant}?"


@pytest.mark.parametrize(
    "variable",
    [
        pytest.param("FORETELL_KUBERNETES_SERVICE_ACCOUNT_NAME", id="long"),
        pytest.param("FORETELL_XYZZY", id="alike-only-in-the-prefix"),
    ],
)
def test_an_unknown_variable_that_resembles_none_is_refused_with_the_place_of_the_list(variable: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({variable: "1"})

    assert caught.value.message == f"{variable} is not a setting; docs/configuration.md lists all settings"


def test_variables_of_others_are_left_alone() -> None:
    settings = load_settings({"PATH": "/bin", "PORT": "1", "XFORETELL_PORT": "1"})

    assert settings.port == 8000


def test_what_people_set_for_the_client_is_none_of_the_services_business() -> None:
    environment = {"FORETELL_URL": "http://foretell:8000", "FORETELL_KEY": "ft_a_b", "FORETELL_CONFIG_FILE": "/c.toml"}

    assert load_settings(environment) == load_settings({})


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_PORT", "9999")

    settings = load_settings({})

    assert settings.port == 8000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("FORETELL_PORT", "eighty", id="port-in-words"),
        pytest.param("FORETELL_PORT", "0", id="port-zero"),
        pytest.param("FORETELL_PORT", "65536", id="port-too-large"),
        pytest.param("FORETELL_WORKERS", "0", id="no-workers"),
        pytest.param("FORETELL_WORKERS", "1.5", id="half-a-worker"),
        pytest.param("FORETELL_REDIS_URL", "http://localhost", id="another-scheme"),
        pytest.param("FORETELL_REDIS_URL", "", id="empty-url"),
        pytest.param("FORETELL_REDIS_PREFIX", "a b", id="prefix-with-a-blank"),
        pytest.param("FORETELL_REDIS_PREFIX", "{a}", id="prefix-with-braces"),
        pytest.param("FORETELL_DURABILITY", "none", id="unknown-durability"),
        pytest.param("FORETELL_LOG_LEVEL", "loud", id="unknown-level"),
        pytest.param("FORETELL_DEMO_MODELS", "perhaps", id="neither-true-nor-false"),
        pytest.param("FORETELL_LEASE_SECONDS", "0", id="no-lease"),
        pytest.param("FORETELL_LEASE_SECONDS", "-1", id="negative-lease"),
        pytest.param("FORETELL_LEASE_SECONDS", "nan", id="lease-not-a-number"),
        pytest.param("FORETELL_LEASE_SECONDS", "inf", id="lease-without-end"),
        pytest.param("FORETELL_LINGER_SECONDS", "inf", id="linger-without-end"),
        pytest.param("FORETELL_MAX_BODY_BYTES", "16MB", id="bytes-with-a-unit"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_in_one_line_that_shows_it(variable: str, value: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({variable: value})

    assert caught.value.message.startswith(f"{variable}={value}: ")
    assert "\n" not in caught.value.message


def test_a_refused_redis_url_is_not_shown_with_its_password() -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({"FORETELL_REDIS_URL": "redis+tls://:hunter2@redis.example:6379/0"})

    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param(
            {"FORETELL_API_THREADS": "108"},
            "FORETELL_API_THREADS=108 must be more than FORETELL_MAX_WAITING_THREADS + FORETELL_MAX_EVENT_STREAMS + "
            "FORETELL_MAX_BODIES + FORETELL_MAX_UPLOADS + FORETELL_MAX_DOWNLOADS (40 + 16 + 12 + 20 + 20)",
            id="slow-clients-could-take-every-thread",
        ),
        pytest.param(
            {"FORETELL_RESULT_TTL_SECONDS": "604801"},
            "FORETELL_RESULT_TTL_SECONDS must not be more than FORETELL_MAX_RESULT_TTL_SECONDS",
            id="default-time-to-live-past-the-most",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings(environment)

    assert caught.value.message == message


def test_settings_at_the_edge_of_a_contradiction_are_allowed() -> None:
    settings = load_settings({"FORETELL_API_THREADS": "109", "FORETELL_RESULT_TTL_SECONDS": "604800"})

    assert (settings.api_threads, settings.result_ttl_seconds) == (109, 604_800)


@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "host": st.sampled_from(["127.0.0.1", "::1", "0.0.0.0"]),  # noqa: S104  # a value, nothing listens
            "port": st.integers(1, 65535),
            "data_dir": st.sampled_from([Path("/srv/foretell"), Path("relative"), Path("/with a blank/ü")]),
            "redis_url": st.sampled_from([None, "redis://a:1/0", "rediss://:p@b:2/3", "unix:///run/redis.sock"]),
            "redis_prefix": st.from_regex(r"[A-Za-z0-9_.-]{1,32}", fullmatch=True),
            "redis_timeout_seconds": st.floats(1e-6, 1e6),
            "durability": st.sampled_from(["process", "disk"]),
            "workers": st.integers(1, 10_000),
            "linger_seconds": st.floats(0, 60),
            "max_body_bytes": st.integers(1, 2**40),
            "log_format": st.sampled_from(["auto", "human", "json"]),
            "demo_models": st.booleans(),
        },
    )
)
def test_a_child_process_reads_the_same_settings_from_its_environment(values: dict[str, Any]) -> None:
    settings = Settings(**values)

    assert load_settings(environment_of(settings)) == settings


def test_the_data_folder_is_absolute_whatever_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings({"FORETELL_DATA_DIR": "state"})

    assert settings.data_dir == tmp_path / "state"


def test_settings_cannot_be_changed() -> None:
    settings = Settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # that is the point


def test_the_embedded_redis_listens_in_the_data_folder() -> None:
    settings = Settings(data_dir=Path("/srv/foretell"))

    assert settings.redis_socket == Path("/srv/foretell/redis/redis.sock")
    assert settings.redis_address == "unix:///srv/foretell/redis/redis.sock"


@pytest.mark.parametrize(
    "depth", [pytest.param(depth, id=f"{depth}-bytes") for depth in (80, 83, 84, 85, 90, 107, 4000)]
)
def test_a_socket_never_has_a_longer_path_than_the_system_allows(depth: int) -> None:
    settings = Settings(data_dir=Path("/" + "d" * (depth - 1)))

    assert len(os.fsencode(settings.redis_socket)) <= LONGEST_SOCKET_PATH


def test_a_deep_data_folder_has_a_socket_of_its_own_that_every_process_finds() -> None:
    deep, other = Path("/" + "d" * 150), Path("/" + "d" * 151)

    sockets = [Settings(data_dir=path).redis_socket for path in (deep, deep, other)]

    assert sockets[0] == sockets[1] != sockets[2]


def test_an_outside_redis_takes_the_place_of_the_embedded_one() -> None:
    settings = Settings(redis_url="rediss://redis.example:6380/1")

    assert settings.redis_address == "rediss://redis.example:6380/1"


def test_the_reference_has_a_row_of_three_cells_for_every_setting() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `FORETELL_")]

    assert [row.split("`")[1] for row in rows] == [f"FORETELL_{name.upper()}" for name in Settings.model_fields]
    assert {row.count("|") for row in rows} == {4}
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("host", ["", "an-unknown-name", "1.2.3"], ids=["nothing", "a-name", "a-part"])
def test_a_host_must_be_an_address(host: str) -> None:
    with pytest.raises(BadSetting, match=r"FORETELL_HOST=.* must be an IP address"):
        load_settings({"FORETELL_HOST": host})
