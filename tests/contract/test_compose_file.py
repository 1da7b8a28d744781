"""docker-compose.yml keeps to the Compose specification, and no service is without limits, health or confinement."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from shared.queue import QUEUES
from shared.settings import load_settings

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
ONE_SHOT = {"models"}
MONITORED = ROOT / "deploy" / "monitoring"
MONITORING = {"prometheus", "grafana"}

Service = dict[str, Any]

SECRET_NAME = re.compile(r"pass(word|wd|phrase)?$|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@"  # a password in a URL
    r"|-----BEGIN"
    r"|\b(AKIA|ghp_|xox[bp]-|sk-)\w{8,}"
    r"|(?=\S*[0-9])(?=\S*[A-Za-z])[A-Za-z0-9+/_-]{32,}"
)


def looks_like_a_secret(name: str, value: str) -> bool:
    return bool(value and SECRET_NAME.search(name)) or bool(SECRET_VALUE.search(value))


def parse(text: str) -> dict[str, Any]:
    """The file as the Compose specification reads it, with its merge keys applied.

    Raises:
        ValueError: an unknown attribute or a value that the specification does not allow.
    """
    compose = compose_spec.PyOptions(apply_merge=True).from_yaml(text)
    compose.validate()
    return dict(compose.to_dict())


def python_arguments(command: list[str], module: str) -> list[str] | None:
    """What follows `python -m module` in a command; None when it runs something else."""
    start = ["python", "-m", module]
    return command[3:] if command[:3] == start else None


def mounted(service: Service) -> dict[str, str]:
    """The files and folders of the repository that a service reads, each with its place in the container."""
    places = [volume.split(":") for volume in service["volumes"]]
    found = {outside: inside for outside, inside, *_ in places if outside.startswith("./")}
    assert [rest for outside, _, *rest in places if outside in found and rest != ["ro"]] == []
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return parse(COMPOSE_TEXT)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return dict(compose["services"])


@pytest.fixture(scope="module")
def ours(services: dict[str, Service]) -> dict[str, Service]:
    """The services that run our image, with the settings they are given."""
    return {name: service for name, service in services.items() if "build" in service}


def deploy_calls(services: dict[str, Service]) -> Iterator[list[str]]:
    for service in services.values():
        for command in (service.get("command", []), service.get("healthcheck", {}).get("test", [])[1:]):
            arguments = python_arguments(command, "deploy")
            if arguments is not None:
                yield arguments


def test_every_part_of_foretell_is_a_service(services: dict[str, Service]) -> None:
    workers = {f"worker-{queue}" for queue in QUEUES}

    assert set(services) == {"redis", "api", "scheduler", "models"} | workers | MONITORING


def test_what_watches_foretell_starts_only_when_it_is_asked_for(services: dict[str, Service]) -> None:
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}

    assert profiles == {name: ["monitoring"] for name in MONITORING}


def test_what_watches_foretell_finds_its_files_and_each_other(compose: dict[str, Any]) -> None:
    prometheus, grafana = compose["services"]["prometheus"], compose["services"]["grafana"]
    files = {place: inside for service in (prometheus, grafana) for place, inside in mounted(service).items()}
    scrape = yaml.safe_load((MONITORED / "prometheus.yml").read_text())
    source = yaml.safe_load((MONITORED / "grafana/provisioning/datasources/foretell.yml").read_text())
    provider = yaml.safe_load((MONITORED / "grafana/provisioning/dashboards/foretell.yml").read_text())

    assert [place for place in files if not (ROOT / place).exists()] == []
    assert set(mounted(prometheus).values()) == {"/etc/prometheus/prometheus.yml", "/etc/prometheus/alerts.yml"}
    assert prometheus["secrets"] == [{"source": "metrics-key", "target": "/etc/prometheus/foretell.key"}]
    assert compose["secrets"] == {"metrics-key": {"file": "${METRICS_KEY_FILE:-./deploy/monitoring/no.key}"}}
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == ["api:8000"]
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert provider["providers"][0]["options"]["path"] in mounted(grafana).values()
    assert (MONITORED / "no.key").read_bytes() == b""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        pytest.param("restart: unless-stopped", "restrat: unless-stopped", "`restrat`", id="unknown-attribute"),
        pytest.param(
            "condition: service_healthy", "condition: service_helthy", "`service_helthy`", id="unknown-condition"
        ),
        pytest.param("127.0.0.1:8000:8000", "127.0.0.1:80000:8000", "`80000`", id="port-out-of-range"),
        pytest.param("interval: 5s", "interval: five", "`five`", id="not-a-duration"),
        pytest.param("memory: 1g", "memory: 1 gigabyte", "`1 gigabyte`", id="not-a-size"),
    ],
)
def test_a_mistake_in_the_file_is_refused(right: str, wrong: str, complaint: str) -> None:
    assert right in COMPOSE_TEXT

    with pytest.raises(ValueError, match=complaint):
        parse(COMPOSE_TEXT.replace(right, wrong, 1))


def test_services_name_only_volumes_and_services_that_exist(compose: dict[str, Any]) -> None:
    services: dict[str, Service] = compose["services"]
    dependencies = {name for service in services.values() for name in service.get("depends_on", {})}
    volumes = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}

    assert dependencies <= set(services)
    assert {volume for volume in volumes if not volume.startswith("./")} == set(compose["volumes"])


def test_every_service_is_restarted_when_it_dies(services: dict[str, Service]) -> None:
    policies = {name: service.get("restart") for name, service in services.items()}

    assert {name for name in services if policies[name] != "unless-stopped"} == ONE_SHOT
    assert {policies[name] for name in ONE_SHOT} == {"on-failure"}


def test_every_service_is_limited_in_memory_and_processes(services: dict[str, Service]) -> None:
    limits = {name: service["deploy"]["resources"]["limits"] for name, service in services.items()}

    assert {name for name, limit in limits.items() if not {"memory", "pids"} <= set(limit)} == set()


def test_every_service_runs_without_root_and_its_powers(services: dict[str, Service]) -> None:
    def is_confined(service: Service) -> bool:
        return (
            service.get("user", "root").split(":")[0] not in {"", "0", "root"}
            and service.get("read_only") is True
            and service.get("cap_drop") == ["ALL"]
            and service.get("security_opt") == ["no-new-privileges:true"]
            and not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
        )

    assert {name for name, service in services.items() if not is_confined(service)} == set()


def test_every_lasting_service_has_a_health_check(services: dict[str, Service]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == ONE_SHOT


def test_every_worker_asks_for_its_own_health(ours: dict[str, Service]) -> None:
    asked = {
        name: python_arguments(service["healthcheck"]["test"][1:], "deploy")
        for name, service in ours.items()
        if name.startswith("worker-") or name == "scheduler"
    }

    assert asked == {name: ["health", name.removeprefix("worker-")] for name in asked}


def test_only_loopback_ports_are_published(services: dict[str, Service]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert ports == {
        "api": ["127.0.0.1:8000:8000"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_an_api_that_asks_for_no_key_is_reached_from_this_machine_only(ours: dict[str, Service]) -> None:
    settings = {name: load_settings(service["environment"]) for name, service in ours.items()}

    open_to_all = {name for name, values in settings.items() if values.allow_access_without_keys}

    assert open_to_all == {name for name, values in settings.items() if not values.is_local} == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in ours["api"]["ports"])
    assert "keys create admin --scope admin" in COMPOSE_TEXT


def test_no_service_is_given_a_secret(services: dict[str, Service]) -> None:
    suspicious = [
        (service_name, name)
        for service_name, service in services.items()
        for name, value in service.get("environment", {}).items()
        if looks_like_a_secret(name, str(value))
    ]

    assert suspicious == []
    assert not SECRET_VALUE.search(COMPOSE_TEXT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("FORETELL_REDIS_URL", "redis://:hunter2@redis:6379/0", id="password-in-a-url"),
        pytest.param("DATABASE_PASSWORD", "hunter2", id="named-password"),
        pytest.param("SIGNING_VALUE", "c7f1a2b94d0e8356c7f1a2b94d0e8356", id="random-text"),
    ],
)
def test_a_secret_is_recognised(name: str, value: str) -> None:
    assert looks_like_a_secret(name, value)


def test_every_setting_is_one_that_foretell_accepts(ours: dict[str, Service]) -> None:
    for service in ours.values():
        settings = load_settings(service["environment"])

        assert settings.redis_address == "redis://redis:6379/0"
        assert f"foretell-data:{settings.data_dir}" in service["volumes"]


def test_every_command_is_one_that_foretell_knows(ours: dict[str, Service]) -> None:
    from deploy.__main__ import COMMANDS

    calls = list(deploy_calls(ours))

    assert {arguments[0] for arguments in calls} == {"api", "worker", "scheduler", "health"}
    assert {arguments[0] for arguments in calls} <= set(COMMANDS)
    assert {arguments[1] for arguments in calls if arguments[0] == "worker"} == set(QUEUES)


def test_the_one_shot_registers_the_demo_models(ours: dict[str, Service]) -> None:
    assert ours["models"]["command"] == ["python", "-m", "examples"]
    assert importlib.util.find_spec("examples.__main__") is not None


def test_redis_keeps_what_was_acknowledged(services: dict[str, Service]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert services["redis"]["volumes"] == ["redis-data:/data"]


def test_the_image_contains_every_package_that_its_commands_need() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    let_through = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert copied == {"api", "worker", "shared", "deploy", "examples"}
    assert copied <= let_through


def test_the_image_and_the_services_agree_on_user_and_data(ours: dict[str, Service]) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()

    assert {f"USER {service['user']}" in dockerfile for service in ours.values()} == {True}
    assert "VOLUME /var/lib/foretell" in dockerfile
