"""The Helm chart's NetworkPolicies and autoscalers: who reaches whom, and what KEDA asks."""

import ipaddress
import re
from typing import Any

import pytest

from shared.heartbeat import SCHEDULER
from shared.metrics import METRICS
from shared.queue import QUEUES

pytest.importorskip("helm_python", reason="Helm's library has no wheel for this machine: pip install helm-python-sdk")

from tests.charts import Object, environment_of, of_kind, pod_of, rendered, role_of  # may be missing

MINIMAL = {"redis": {"existingSecret": "redis"}, "storage": {"url": "s3://bucket/foretell"}}
WITH_KEDA = MINIMAL | {"keda": {"enabled": True}, "metrics": {"existingSecret": "metrics", "secretKey": "reader"}}
ROLES = ("api", SCHEDULER, *QUEUES)
DNS = {"namespace": {"kubernetes.io/metadata.name": "kube-system"}}
REDIS = {"address": "10.1.2.3"}
INTERNET = {"address": "203.0.113.7"}
METADATA = {"address": "169.254.169.254"}
ELSEWHERE = {"namespace": {"kubernetes.io/metadata.name": "others"}}
ROUTERS = {"namespace": {"kubernetes.io/metadata.name": "ingress"}}

Peer = dict[str, Any]


def allowed(objects: list[Object], role: str, way: str, peer: Peer, port: int) -> bool:
    """Whether the policies let a pod of a role talk to a peer: `way` is Egress or Ingress.

    https://kubernetes.io/docs/concepts/services-networking/network-policies: what no policy isolates is free, and else
    it is what any of them allows.
    """
    (pod,) = [pod_of(found) for found in of_kind(objects, "Deployment").values() if role_of(found) == role]
    labels = pod["metadata"]["labels"]
    isolating = [
        found["spec"]
        for found in of_kind(objects, "NetworkPolicy").values()
        if way in found["spec"]["policyTypes"] and takes(found["spec"]["podSelector"], labels)
    ]
    rules = [rule for spec in isolating for rule in spec.get(way.lower(), [])]
    peers = "to" if way == "Egress" else "from"
    named = {entry["name"]: entry["containerPort"] for entry in pod["spec"]["containers"][0].get("ports", [])}
    return not isolating or any(
        any(named.get(entry["port"], entry["port"]) == port for entry in rule.get("ports", [{"port": port}]))
        and (peers not in rule or any(is_peer(entry, peer) for entry in rule[peers]))
        for rule in rules
    )


def takes(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    expressions = selector.get("matchExpressions", [])
    assert {expression["operator"] for expression in expressions} <= {"NotIn"}
    return selector.get("matchLabels", {}).items() <= labels.items() and not any(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def is_peer(entry: Object, peer: Peer) -> bool:
    """Whether a peer of a rule is this one."""
    if "ipBlock" not in entry:
        return "namespace" in peer and takes(entry["namespaceSelector"], peer["namespace"])
    if "address" not in peer:
        return False
    address = ipaddress.ip_address(peer["address"])
    block = entry["ipBlock"]
    return address in ipaddress.ip_network(block["cidr"]) and not any(
        address in ipaddress.ip_network(excepted) for excepted in block.get("except", [])
    )


@pytest.fixture(scope="module")
def minimal() -> list[Object]:
    return rendered(MINIMAL)


@pytest.mark.parametrize(
    ("peer", "port", "roles"),
    [
        pytest.param(DNS, 53, set(ROLES), id="names"),
        pytest.param(REDIS, 6379, set(ROLES), id="redis"),
        pytest.param(INTERNET, 443, set(ROLES) - {SCHEDULER}, id="s3"),
        pytest.param(INTERNET, 8443, {"webhooks"}, id="receivers-of-webhooks"),
        pytest.param(INTERNET, 80, {"webhooks"}, id="internet"),
        pytest.param(METADATA, 80, set(), id="metadata-of-the-cloud"),
        pytest.param(REDIS, 5672, set(), id="broker-that-is-not-set"),
        pytest.param(REDIS, 22, set(), id="private-addresses"),
        pytest.param(ELSEWHERE, 8000, set(), id="pods-of-others"),
    ],
)
def test_pods_reach_what_they_need_and_nothing_else(
    minimal: list[Object], peer: Peer, port: int, roles: set[str]
) -> None:
    assert {role for role in ROLES if allowed(minimal, role, "Egress", peer, port)} == roles


def test_the_broker_is_reached_where_there_is_one() -> None:
    objects = rendered(MINIMAL | {"broker": {"existingSecret": "rabbitmq"}})

    assert {role for role in ROLES if allowed(objects, role, "Egress", REDIS, 5671)} == set(ROLES)


@pytest.mark.parametrize(("port", "roles"), [(8000, {"api"}), (8001, set())])
def test_only_the_api_can_be_called(minimal: list[Object], port: int, roles: set[str]) -> None:
    assert {role for role in ROLES if allowed(minimal, role, "Ingress", ELSEWHERE, port)} == roles


def test_who_calls_the_api_can_be_named() -> None:
    objects = rendered(
        MINIMAL | {"networkPolicy": {"apiFrom": [{"namespaceSelector": {"matchLabels": ROUTERS["namespace"]}}]}}
    )

    assert allowed(objects, "api", "Ingress", ROUTERS, 8000)
    assert not allowed(objects, "api", "Ingress", ELSEWHERE, 8000)


def test_peers_can_be_named() -> None:
    only = {"redis": {"ports": [6380], "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}}

    objects = rendered(MINIMAL | {"networkPolicy": only})

    assert allowed(objects, "online", "Egress", REDIS, 6380)
    assert not allowed(objects, "online", "Egress", {"address": "10.2.0.1"}, 6380)


def test_policies_can_be_left_to_others() -> None:
    assert of_kind(rendered(MINIMAL | {"networkPolicy": {"enabled": False}}), "NetworkPolicy") == {}


SELECTOR = re.compile(r"foretell_(\w+)\{([^}]*)\}")


def asked(scaled: Object) -> list[tuple[str, dict[str, str]]]:
    """The metric and the labels that each trigger asks for."""
    found = []
    for trigger in scaled["spec"]["triggers"]:
        name, labels = SELECTOR.search(
            trigger["metadata"].get("valueLocation") or trigger["metadata"]["query"]
        ).groups()  # type: ignore[union-attr]
        found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels))))
    return found


@pytest.fixture(scope="module")
def scaled() -> dict[str, Object]:
    return of_kind(rendered(WITH_KEDA), "ScaledObject")


def test_keda_asks_for_wanted_workers_and_for_age_and_depth_of_the_lanes(scaled: dict[str, Object]) -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS}

    assert set(scaled) == {f"foretell-worker-{queue}" for queue in ("online", "batch", "train")}
    for name, found in scaled.items():
        queue = {"queue": name.removeprefix("foretell-worker-")}
        assert asked(found) == [
            ("workers_wanted", queue),
            ("oldest_wait_seconds", queue),
            ("jobs", queue | {"state": "waiting"}),
        ]
        assert all(set(given) == labels[metric] for metric, given in asked(found))


def test_keda_decides_alone_how_many_pods_there_are(scaled: dict[str, Object]) -> None:
    replicas = {
        name: found["spec"].get("replicas") for name, found in of_kind(rendered(WITH_KEDA), "Deployment").items()
    }

    assert {name for name in replicas if replicas[name] is None} == set(scaled)
    assert {found["spec"]["scaleTargetRef"]["name"] for found in scaled.values()} == set(scaled)


def test_keda_shows_the_key_that_reads_metrics(scaled: dict[str, Object]) -> None:
    authentication = of_kind(rendered(WITH_KEDA), "TriggerAuthentication")["foretell-metrics"]["spec"]
    triggers = [trigger for found in scaled.values() for trigger in found["spec"]["triggers"]]

    assert authentication == {"secretTargetRef": [{"parameter": "token", "name": "metrics", "key": "reader"}]}
    assert {trigger["authenticationRef"]["name"] for trigger in triggers} == {"foretell-metrics"}
    assert {trigger["metadata"]["authMode"] for trigger in triggers} == {"bearer"}
    assert {trigger["metadata"]["url"] for trigger in triggers} == {"http://foretell-api.predictions.svc:80/metrics"}


def test_keda_can_ask_a_prometheus() -> None:
    source = {"enabled": True, "source": "prometheus", "prometheusAddress": "http://p", "prometheusMatchers": 'job="f"'}

    found = of_kind(rendered(MINIMAL | {"keda": source}), "ScaledObject")["foretell-worker-online"]

    first = found["spec"]["triggers"][0]
    assert first["metadata"]["query"] == 'max(foretell_workers_wanted{queue="online",job="f"})'
    assert "authenticationRef" not in first


def test_a_threshold_of_nothing_is_not_asked() -> None:
    none = {"online": {"autoscaling": {"oldestWaitSeconds": 0, "waitingJobs": 0}}}

    found = of_kind(rendered(WITH_KEDA | {"workers": none}), "ScaledObject")["foretell-worker-online"]

    assert [name for name, _ in asked(found)] == ["workers_wanted"]


def test_a_queue_goes_down_to_nothing_only_if_nothing_may_be_wanted() -> None:
    to_zero = {"train": {"autoscaling": {"minReplicas": 0}}}

    objects = rendered(WITH_KEDA | {"workers": to_zero})

    given = [environment_of(found) for found in of_kind(objects, "Deployment").values()]
    assert {variables["FORETELL_AUTOSCALE_MIN_PROCESSES"] for variables in given} == {"0"}
    assert of_kind(objects, "ScaledObject")["foretell-worker-train"]["spec"]["minReplicaCount"] == 0
    assert "FORETELL_AUTOSCALE_MIN_PROCESSES" not in environment_of(
        of_kind(rendered(MINIMAL), "Deployment")["foretell-api"]
    )


def test_what_autoscales_the_api_decides_alone_how_many_pods_there_are() -> None:
    objects = rendered(MINIMAL | {"api": {"autoscaling": {"enabled": True}}})

    (autoscaler,) = of_kind(objects, "HorizontalPodAutoscaler").values()
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == "foretell-api"
    assert "replicas" not in of_kind(objects, "Deployment")["foretell-api"]["spec"]


def test_the_service_is_scraped_as_one_address() -> None:
    wanted = {"existingSecret": "metrics", "scrapeConfig": {"enabled": True}}

    (scrape,) = of_kind(rendered(MINIMAL | {"metrics": wanted}), "ScrapeConfig").values()

    assert scrape["spec"]["staticConfigs"] == [{"targets": ["foretell-api.predictions.svc:80"]}]
    assert scrape["spec"]["authorization"]["credentials"] == {"name": "metrics", "key": "key"}
