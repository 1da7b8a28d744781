"""A Redis with a password and TLS, for our own connections and Celery's; an embedded one that is nobody else's."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.commands import root
from deploy.run import private_folders
from shared.connection import check_server
from shared.errors import BadSetting, StoreUnavailable
from shared.settings import Settings
from shared.store import JobStore
from tests.certificates import Certificate, TlsServer, connects, make_certificate
from tests.models import register_moody
from tests.processes import Http, RedisServer, clean_environment, free_port, start_service

# Every character that a URL gives another meaning to.
PASSWORD = "hunter2/?#@:%"
ESCAPED = "hunter2%2F%3F%23%40%3A%25"


@pytest.fixture
def outside(folder: Path) -> Iterator[RedisServer]:
    """A Redis on a TCP port of loopback, with a password."""
    server = RedisServer(Settings(data_dir=folder / "outside"), "--bind", "127.0.0.1", "--port", str(free_port()))
    server.client.config_set("requirepass", PASSWORD)
    server.client.execute_command("AUTH", PASSWORD)
    yield server
    server.stop()


@pytest.fixture
def certificate(folder: Path) -> Certificate:
    return make_certificate(folder, "authority", "server")


@pytest.fixture
def stranger(folder: Path) -> Certificate:
    """One that another authority has signed."""
    return make_certificate(folder, "other-authority", "stranger")


def port_of(server: RedisServer) -> int:
    return int(server.client.config_get("port")["port"])


@pytest.fixture
def tls(outside: RedisServer, certificate: Certificate) -> Iterator[TlsServer]:
    """The same Redis behind TLS, for clients with a certificate of the authority."""
    server = TlsServer(port_of(outside), certificate, clients=certificate.ca)
    yield server
    server.stop()


@pytest.fixture
def secured(tls: TlsServer, certificate: Certificate, make_settings: Callable[..., Settings]) -> Settings:
    """Settings that fit."""
    return make_settings(
        redis_url=f"rediss://:{ESCAPED}@127.0.0.1:{tls.port}/0",
        redis_ca_file=certificate.ca,
        redis_cert_file=certificate.cert,
        redis_key_file=certificate.key,
    )


def refusal_of(settings: Settings) -> str:
    """The one line of a start that must fail."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "scheduler"],
        env=clean_environment(settings),
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr


def test_jobs_are_done_over_tls_with_a_password_and_nobody_logs_it(secured: Settings) -> None:
    settings = secured.model_copy(update={"demo_models": False})
    service = start_service(settings)
    try:
        register_moody(settings)
        http = Http(settings.port)
        job = http.done(http.submit("moody", [[21.0]])["id"])
        answers = [job, http("GET", "/readyz").json, http("GET", "/version").json]
    finally:
        exit_code = service.stop(60)

    assert job["result"]["predictions"] == [42.0]
    assert exit_code == 0
    assert [word for word in ("hunter2", ESCAPED) if word in service.text() or word in str(answers)] == []


def test_a_server_whose_certificate_another_authority_has_signed_is_refused(
    secured: Settings, stranger: Certificate
) -> None:
    settings = secured.model_copy(update={"redis_ca_file": stranger.ca})

    assert connects(secured)
    assert "certificate verify failed" in refusal_of(settings)
    assert not connects(settings)


def test_a_client_without_the_right_certificate_gets_no_answer(secured: Settings, stranger: Certificate) -> None:
    wrong = {"redis_cert_file": stranger.cert, "redis_key_file": stranger.key}
    settings = secured.model_copy(update=wrong)

    said = refusal_of(settings)

    assert "cannot be reached" in said
    assert "hunter2" not in said
    assert not connects(settings)


def test_celery_checks_the_certificate_without_being_told(
    tls: TlsServer, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(redis_url=f"rediss://:{ESCAPED}@127.0.0.1:{tls.port}/0")

    assert not connects(settings)


@pytest.mark.parametrize("user", [":wrong-hunter2", "nobody:hunter2", ""], ids=["password", "user", "none"])
def test_a_wrong_password_is_one_line_without_it(
    outside: RedisServer, make_settings: Callable[..., Settings], user: str
) -> None:
    at = f"{user}@" if user else ""
    settings = make_settings(redis_url=f"redis://{at}127.0.0.1:{port_of(outside)}/0")

    said = refusal_of(settings)

    assert f"Redis at 127.0.0.1:{port_of(outside)}/0 refuses the user or the password" in said
    assert "hunter2" not in said


def test_a_password_that_is_changed_while_the_service_runs_is_needed_anew(
    outside: RedisServer, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(redis_url=f"redis://:{ESCAPED}@127.0.0.1:{port_of(outside)}/0")
    check_server(settings.redis_address, timeout_seconds=5)
    outside.client.config_set("requirepass", "another")

    with pytest.raises(BadSetting, match="refuses the user or the password"):
        check_server(settings.redis_address, timeout_seconds=5)


def test_a_redis_that_throws_jobs_away_is_refused_also_where_it_forbids_config(
    outside: RedisServer, make_settings: Callable[..., Settings]
) -> None:
    outside.client.execute_command("ACL", "SETUSER", "tenant", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-config")
    settings = make_settings(redis_url=f"redis://tenant:{ESCAPED}@127.0.0.1:{port_of(outside)}/0")
    check_server(settings.redis_address, timeout_seconds=5)
    outside.client.config_set("maxmemory-policy", "volatile-lru")

    with pytest.raises(BadSetting, match="volatile-lru"):
        check_server(settings.redis_address, timeout_seconds=5)


def test_a_master_that_waits_in_vain_for_its_replicas_takes_no_jobs(store: JobStore) -> None:
    store.connections.client.config_set("min-replicas-to-write", 1)

    with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
        store.run("upload", "jobs/x", 1000, "begin")


class TestEmbedded:
    """The Redis that the service starts itself."""

    def test_nobody_else_can_read_or_reach_anything_whatever_the_umask(
        self, make_settings: Callable[..., Settings]
    ) -> None:
        settings = make_settings(demo_models=True)
        before = os.umask(0)
        try:
            service = start_service(settings)
        finally:
            os.umask(before)
        try:
            places = [settings.data_dir, *settings.data_dir.rglob("*")]
            modes = {str(place): stat.S_IMODE(place.lstat().st_mode) for place in places}
        finally:
            service.stop(60)

        assert str(settings.redis_socket) in modes
        assert [place for place in modes if "appendonly" in place]
        assert [place for place in modes if "artifact" in place]
        assert {place: oct(mode) for place, mode in modes.items() if mode & 0o077} == {}

    def test_it_listens_on_no_port(self, redis_server: RedisServer) -> None:
        assert redis_server.client.config_get("port")["port"] == "0"

    def test_folders_of_an_older_release_are_closed(self, settings: Settings) -> None:
        for name in ("redis", "storage"):
            (settings.data_dir / name).mkdir(parents=True)
            (settings.data_dir / name).chmod(0o755)

        private_folders(settings)

        assert {stat.S_IMODE((settings.data_dir / name).stat().st_mode) for name in ("redis", "storage")} == {0o700}

    def test_a_folder_for_the_socket_that_leads_elsewhere_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        settings = Settings(data_dir=tmp_path / ("d" * 120))
        settings.data_dir.mkdir()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        settings.redis_socket.parent.symlink_to(elsewhere)

        with pytest.raises(BadSetting, match="is not a folder of the user that runs the service"):
            private_folders(settings)
