"""The Helm chart: what it renders is valid, confined, runs what there is, and can be reached by whom it must."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.__main__ import COMMANDS, LIVENESS
from deploy.commands import api_stop_seconds
from docs.chart import CHART, values_of, written
from shared import __version__
from shared.heartbeat import SCHEDULER
from shared.queue import QUEUES
from shared.settings import PREFIX, Settings, load_settings
from tests.contract.test_compose_file import looks_like_a_secret

helm = pytest.importorskip(
    "helm_python", reason="Helm's library has no wheel for this machine: pip install helm-python-sdk"
)

from tests.charts import (  # noqa: E402  # needs what may be missing
    RELEASES,
    Object,
    Values,
    chart,
    check,
    container_of,
    environment_of,
    of_kind,
    pod_of,
    rendered,
    role_of,
    texts,
)

VALUES_TEXT = (CHART / "values.yaml").read_text()
DEFAULTS: dict[str, Any] = yaml.safe_load(VALUES_TEXT)
SCALED = ("batch", "online", "train")
MINIMAL: Values = {"redis": {"existingSecret": "redis"}, "storage": {"url": "s3://bucket/foretell"}}
SETS: dict[str, Values] = {
    "minimal": MINIMAL,
    "volume": {"redis": {"url": "redis://redis:6379/0"}, "storage": {"existingClaim": "files"}},
    "rabbitmq": MINIMAL | {"broker": {"existingSecret": "rabbitmq", "secretKey": "amqp", "tlsSecret": "rabbitmq-tls"}},
    "keda": MINIMAL | {"keda": {"enabled": True}, "metrics": {"existingSecret": "metrics"}},
    "keda-to-zero": MINIMAL
    | {
        "keda": {
            "enabled": True,
            "source": "prometheus",
            "prometheusAddress": "http://prometheus:9090",
            "prometheusMatchers": 'job="foretell"',
        },
        "workers": {"train": {"autoscaling": {"minReplicas": 0, "waitingJobs": 0}}},
    },
    "everything": {
        "redis": {"existingSecret": "redis", "tlsSecret": "redis-tls", "clientCertificate": True},
        "broker": {"url": "amqps://rabbitmq:5671", "tlsSecret": "rabbitmq-tls"},
        "storage": {
            "url": "s3://bucket",
            "existingSecret": "s3",
            "region": "eu-central-1",
            "endpoint": "https://s3.example.org",
        },
        "metrics": {
            "existingSecret": "metrics",
            "scrapeConfig": {"enabled": True, "labels": {"release": "prometheus"}},
        },
        "settings": {"FORETELL_RESULT_TTL_SECONDS": "3600"},
        "serviceAccount": {"annotations": {"example.org/role": "foretell"}},
        "podAnnotations": {"example.org/team": "scoring"},
        "pod": {"nodeSelector": {"pool": "general"}, "priorityClassName": "service"},
        "image": {"repository": "registry.example/foretell", "tag": "0.2.0", "pullSecrets": [{"name": "registry"}]},
        "networkPolicy": {
            "apiFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
            "extraEgress": [{"ports": [{"protocol": "TCP", "port": 5000}]}],
        },
        "api": {
            "tag": "0.1.0",
            "autoscaling": {"enabled": True},
            "readinessPath": "/readyz",
            "service": {"annotations": {"example.org/a": "b"}},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "annotations": {"example.org/a": "b"},
                "tlsSecret": "foretell-tls",
            },
        },
        "workers": {
            "train": {
                "pod": {"tolerations": [{"key": "train", "operator": "Exists"}], "nodeSelector": {"pool": "large"}}
            }
        },
        "keda": {"enabled": True},
    },
}
each_set = pytest.mark.parametrize("objects", SETS, indirect=True)


@pytest.fixture(scope="module")
def all_objects() -> dict[str, list[Object]]:
    return {name: rendered(values) for name, values in SETS.items()}


@pytest.fixture
def objects(request: pytest.FixtureRequest, all_objects: dict[str, list[Object]]) -> list[Object]:
    return all_objects[request.param]


def deployments(objects: list[Object]) -> dict[str, Object]:
    """The Deployments by the role of their pods."""
    return {role_of(found): found for found in of_kind(objects, "Deployment").values()}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod with these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "NotIn" for expression in expressions)
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and not any(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values that are no mapping with members."""
    if isinstance(tree, dict) and (tree or not path):
        for name, member in tree.items():
            yield from leaves(member, (*path, name))
    else:
        yield path


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def with_value(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """The tree with another value there."""
    if not path:
        return value
    return {**tree, path[0]: with_value(tree.get(path[0], {}), path[1:], value)}


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    report = helm.lint(CHART, dict(SETS[name]), strict=True)

    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("release", RELEASES)
@each_set
def test_every_object_is_one_that_kubernetes_takes(objects: list[Object], release: str) -> None:
    for found in objects:
        check(found, release)


def test_a_mistake_in_an_object_is_found(all_objects: dict[str, list[Object]]) -> None:
    for found in all_objects["everything"]:
        if found["kind"] != "ServiceAccount":
            with pytest.raises(jsonschema.ValidationError, match="'mistake' was unexpected"):
                check(found | {"spec": found["spec"] | {"mistake": True}}, RELEASES[-1])


@each_set
def test_there_is_a_deployment_for_every_role(objects: list[Object]) -> None:
    names = {role: found["metadata"]["name"] for role, found in deployments(objects).items()}

    assert names == {"api": "foretell-api", SCHEDULER: "foretell-scheduler"} | {
        queue: f"foretell-worker-{queue}" for queue in QUEUES
    }


@each_set
def test_pods_run_without_root_its_powers_a_token_and_a_disk(objects: list[Object]) -> None:
    for found in deployments(objects).values():
        pod = pod_of(found)["spec"]
        confined = container_of(found)["securityContext"]

        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert confined == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all({"emptyDir", "secret", "persistentVolumeClaim"} & set(volume) for volume in pod["volumes"])
    assert of_kind(objects, "ServiceAccount")["foretell"]["automountServiceAccountToken"] is False
    assert not {"Secret", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {o["kind"] for o in objects}


@each_set
def test_names_of_services_do_not_become_settings_that_there_are_not(objects: list[Object]) -> None:
    assert [pod_of(found)["spec"]["enableServiceLinks"] for found in deployments(objects).values()] == 7 * [False]


@each_set
def test_every_pod_has_probes_resources_and_a_budget(objects: list[Object]) -> None:
    budgets = of_kind(objects, "PodDisruptionBudget")

    for name, found in of_kind(objects, "Deployment").items():
        container = container_of(found)
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}
        assert budgets[name]["spec"] == {"selector": found["spec"]["selector"], "maxUnavailable": 1}


@each_set
def test_selectors_take_their_own_pods_and_no_others(objects: list[Object]) -> None:
    labels = {role: pod_of(found)["metadata"]["labels"] for role, found in deployments(objects).items()}

    for role, found in deployments(objects).items():
        assert [other for other in labels if selects(found["spec"]["selector"], labels[other])] == [role]
        (spread,) = pod_of(found)["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"] == found["spec"]["selector"]
    service = of_kind(objects, "Service")["foretell-api"]["spec"]
    assert [role for role in labels if selects({"matchLabels": service["selector"]}, labels[role])] == ["api"]
    assert {port["targetPort"] for port in service["ports"]} == {
        port["name"] for port in container_of(deployments(objects)["api"])["ports"]
    }


def settings_of(deployment: Object) -> Settings:
    """The settings that its processes have; in place of secrets and their files is something of their kind."""
    secrets = {"FORETELL_REDIS_URL": "rediss://:password@redis:6379/0", "FORETELL_BROKER_URL": "amqps://rabbitmq"}
    given = {name: value or secrets[name] for name, value in environment_of(deployment).items() if is_ours(name)}
    return load_settings({name: __file__ if name.endswith("_FILE") else value for name, value in given.items()})


def is_ours(name: str) -> bool:
    return name.startswith(PREFIX)


@each_set
def test_every_variable_is_a_setting_that_foretell_accepts(objects: list[Object]) -> None:
    for role, found in deployments(objects).items():
        given = environment_of(found)
        settings = settings_of(found)

        assert {name for name in given if not is_ours(name)} <= {"AWS_REGION", "AWS_ENDPOINT_URL"}
        assert (settings.port, str(settings.data_dir)) == (8000, "/var/lib/foretell")
        assert not settings.allow_access_without_keys
        assert "FORETELL_WORKERS" in given or role in {"control", "webhooks", SCHEDULER}


@each_set
def test_files_that_settings_name_are_mounted(objects: list[Object]) -> None:
    for found in deployments(objects).values():
        mounts = {mount["mountPath"] for mount in container_of(found)["volumeMounts"]}
        volumes = {volume["name"] for volume in pod_of(found)["spec"]["volumes"]}
        files = [value or "" for name, value in environment_of(found).items() if name.endswith("_FILE")]

        assert {file.rpartition("/")[0] for file in files} <= mounts
        assert {"/tmp", "/var/lib/foretell"} <= mounts  # noqa: S108  # a mount
        assert {mount["name"] for mount in container_of(found)["volumeMounts"]} == volumes


@each_set
def test_every_command_is_one_that_foretell_knows(objects: list[Object]) -> None:
    roles = {"api": ["api"], SCHEDULER: ["scheduler"]} | {queue: ["worker", queue] for queue in QUEUES}

    for role, found in deployments(objects).items():
        container = container_of(found)
        probes = {name: container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        asked = {name: probe["exec"]["command"] for name, probe in probes.items() if "exec" in probe}

        assert container["command"] == ["python", "-m", "deploy", *roles[role]]
        assert set(asked) == (set() if role == "api" else set(probes))
        for name, command in asked.items():
            always = [LIVENESS] if name == "livenessProbe" else []
            assert command == ["python", "-m", "deploy", "health", role, *always]
    assert {command[0] for command in roles.values()} | {"health"} <= set(COMMANDS)


@each_set
def test_pods_have_the_time_that_an_orderly_stop_takes(objects: list[Object]) -> None:
    for role, found in deployments(objects).items():
        settings = settings_of(found)
        takes = {"api": api_stop_seconds(settings), SCHEDULER: 10}.get(role, settings.drain_seconds + 30)

        assert pod_of(found)["spec"]["terminationGracePeriodSeconds"] >= takes + 5
    assert environment_of(deployments(objects)["api"])["FORETELL_STOP_DELAY_SECONDS"] == "10"


@each_set
def test_no_object_has_a_secret_in_it(objects: list[Object]) -> None:
    for found in deployments(objects).values():
        given = environment_of(found)
        assert [name for name, value in given.items() if looks_like_a_secret(name, value or "")] == []


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"redis": {"url": "redis://:hunter2@redis:6379/0"}}, id="password-of-redis"),
        pytest.param({"broker": {"url": "amqp://user:hunter2@rabbitmq"}}, id="password-of-the-broker"),
        pytest.param({"storage": {"accessKey": "AKIA"}}, id="key-of-s3"),
        pytest.param({"redis": {"existingSecret": "r", "pasword": "x"}}, id="unknown"),
        pytest.param({"settings": {"FORETELL_MAX_BODIES": 20}}, id="number-for-a-variable"),
        pytest.param({"settings": {"FORETELL_WORKERS": "3"}}, id="variable-of-another-value"),
        pytest.param({"settings": {"PATH": "/"}}, id="variable-of-others"),
        pytest.param({"workers": {"onlin": {"replicas": 3}}}, id="unknown-queue"),
        pytest.param({"keda": {"source": "redis"}}, id="unknown-source"),
    ],
)
def test_values_that_are_not_meant_are_refused(values: Values) -> None:
    together = {name: {**MINIMAL.get(name, {}), **values.get(name, {})} for name in {*MINIMAL, *values}}

    with pytest.raises(helm.errors.HelmError, match="schema"):
        rendered(together)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param({}, "redis.existingSecret", id="no-redis"),
        pytest.param({"redis": {"url": "redis://r", "existingSecret": "r"}}, "redis.existingSecret", id="two-redis"),
        pytest.param({"redis": {"url": "redis://r"}}, "storage.url", id="no-storage"),
        pytest.param(MINIMAL | {"broker": {"url": "amqp://r", "existingSecret": "r"}}, "not both", id="two-brokers"),
        pytest.param(
            MINIMAL | {"keda": {"enabled": True, "source": "prometheus"}}, "prometheusAddress", id="no-prometheus"
        ),
        pytest.param(
            SETS["keda-to-zero"] | {"api": {"readinessPath": "/readyz"}}, "set api.readinessPath", id="never-ready"
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused_in_words(values: Values, complaint: str) -> None:
    with pytest.raises(helm.errors.HelmError, match=complaint):
        rendered(values)


# What else has to be set, so that a value shows.
NEEDS: dict[str, Values] = {
    "redis.url": {"redis": {"existingSecret": "", "url": "redis://first"}},
    "storage.existingClaim": {"storage": {"url": "", "existingClaim": "first"}},
    "broker.existingSecret": {"broker": {"url": "", "existingSecret": "first"}},
    "broker.secretKey": {"broker": {"url": "", "existingSecret": "first"}},
    "keda.source": {"keda": {"prometheusAddress": "http://first"}},
    "keda.prometheusAddress": {"keda": {"source": "prometheus", "prometheusAddress": "http://first"}},
    "keda.prometheusMatchers": {"keda": {"source": "prometheus", "prometheusAddress": "http://first"}},
    "api.replicas": {"api": {"autoscaling": {"enabled": False}}},
    **{f"workers.{queue}.replicas": {"keda": {"enabled": False}} for queue in SCALED},
}
OTHER: dict[str, Any] = {
    "redis.url": "redis://another",
    "broker.url": "redis://another",
    "storage.url": "s3://another",
    "storage.endpoint": "https://another.example",
    "storage.existingClaim": "claim",
    "metrics.scrapeConfig.interval": "77s",
    "keda.source": "prometheus",
    "keda.prometheusAddress": "http://another",
    "image.pullPolicy": "Always",
    "api.readinessPath": "/healthz",
    "api.service.type": "NodePort",
    "workers.train.autoscaling.minReplicas": 2,
}


def another(path: str, value: Any) -> Any:
    """A value that is neither the default nor the one of the set."""
    if path in OTHER:
        return OTHER[path]
    if path.endswith((".cpu", ".memory", "tmpSize", "sharedMemorySize")):
        return "77Mi"
    if path.endswith("pod"):
        return {"nodeSelector": {"another": "node"}}
    if path.endswith("settings"):
        return {"FORETELL_LOG_LEVEL": "debug"}
    if path.startswith("networkPolicy") and path.endswith(("apiFrom", "to", "dns", "webhooksTo")):
        return [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    changes: dict[type, Callable[[], Any]] = {
        bool: lambda: not with_defaults(SETS["everything"], path),
        int: lambda: value + 7,
        str: lambda: "another",
        dict: lambda: {"another": "one"},
        list: lambda: [77] if path.endswith("ports") else [{"name": "another"}],
    }
    return changes[type(value)]()


def with_defaults(values: Values, path: str) -> Any:
    """What a value is when Helm has completed the others."""
    return at(chart().merge_values(dict(values)), tuple(path.split(".")))


def test_every_value_does_something() -> None:
    idle = []
    usual = texts(SETS["everything"])

    for path in leaves(DEFAULTS):
        name = ".".join(path)
        base = SETS["everything"]
        for where in leaves(NEEDS.get(name, {})):
            base = with_value(base, where, at(NEEDS[name], where))
        before = texts(base) if name in NEEDS else usual
        if before == texts(with_value(base, path, another(name, at(DEFAULTS, path)))):
            idle.append(name)

    assert idle == []


def test_every_value_is_described_and_has_a_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def part(where: Any, name: str) -> Any:
        where = schema["definitions"][where["$ref"].rpartition("/")[2]] if "$ref" in where else where
        return where["properties"][name] if "properties" in where else {}

    for path in leaves(DEFAULTS):
        described: Any = schema
        for name in path:
            described = part(described, name)
    assert [value.path for value in values_of(VALUES_TEXT) if not value.text] == []
    assert written((CHART / "README.md").read_text(), VALUES_TEXT) == (CHART / "README.md").read_text()


def test_the_chart_is_of_this_release() -> None:
    assert chart().metadata["appVersion"] == __version__
    assert "dependencies" not in chart().metadata


def test_names_of_objects_are_not_too_long_for_labels() -> None:
    objects = rendered(SETS["everything"], name="a" * 53)

    assert max(len(found["metadata"]["name"]) for found in objects) <= 63


def test_workers_can_be_upgraded_before_the_api() -> None:
    objects = rendered(MINIMAL | {"image": {"tag": "0.2.0"}, "api": {"tag": "0.1.0"}})

    images = {role: container_of(found)["image"] for role, found in deployments(objects).items()}

    assert images.pop("api") == "foretell:0.1.0"
    assert set(images.values()) == {"foretell:0.2.0"}


def test_no_pod_goes_before_another_has_come() -> None:
    strategies = {json.dumps(found["spec"]["strategy"]) for found in deployments(rendered(MINIMAL)).values()}

    assert strategies == {'{"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}'}


def test_the_train_worker_has_shared_memory() -> None:
    (volume,) = [
        volume
        for volume in pod_of(deployments(rendered(MINIMAL))["train"])["spec"]["volumes"]
        if volume["name"] == "shared-memory"
    ]

    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}
