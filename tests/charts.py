"""The Helm chart rendered by Helm's own library, and Kubernetes' word on what came out."""

import functools
import json
from importlib import resources
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from docs.chart import CHART

Object = dict[str, Any]
Values = dict[str, Any]
# Of extensions, whose schemas Kubernetes itself does not have: what the chart may use of them, as the definitions of
# KEDA 2.16 and of version 0.80 of the Prometheus operator have it.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}


def fields(required: str, **of: Object) -> Object:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": of, "additionalProperties": False, "required": required.split()}


def many(items: Object) -> Object:
    """The schema of a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


TEXT = {"type": "string"}
EXTENSIONS = {
    "keda.sh/v1alpha1/ScaledObject": fields(
        "scaleTargetRef triggers",
        scaleTargetRef=fields("name", name=TEXT),
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        advanced=fields(
            "horizontalPodAutoscalerConfig",
            horizontalPodAutoscalerConfig=fields(
                "behavior", behavior=fields("scaleDown", scaleDown=fields("", stabilizationWindowSeconds=COUNT))
            ),
        ),
        triggers=many(
            fields(
                "type metadata",
                type={"enum": ["metrics-api", "prometheus"]},
                metricType={"enum": ["AverageValue", "Value"]},
                metadata=TEXTS,
                authenticationRef=fields("name", name=TEXT),
            )
        ),
    ),
    "keda.sh/v1alpha1/TriggerAuthentication": fields(
        "secretTargetRef", secretTargetRef=many(fields("parameter name key", parameter=TEXT, name=TEXT, key=TEXT))
    ),
    "monitoring.coreos.com/v1alpha1/ScrapeConfig": fields(
        "staticConfigs",
        jobName=TEXT,
        scrapeInterval=TEXT,
        metricsPath=TEXT,
        staticConfigs=many(fields("targets", targets=many(TEXT))),
        authorization=fields("credentials", credentials=fields("name key", name=TEXT, key=TEXT)),
    ),
}
# The oldest release that Chart.yaml allows, and the newest that the validator knows.
RELEASES = ("1.25.0", kubernetes_validate.latest_version())
SCHEMAS = resources.files("kubernetes_validate") / "kubernetes-json-schema"


def texts(values: Values, *, name: str = "foretell", namespace: str = "predictions") -> dict[str, str]:
    """What an installation would send, by the names of the templates.

    Raises:
        helm_python.errors.HelmError: the values are refused.
    """
    files: dict[str, str] = chart().render(dict(values), name=name, namespace=namespace)
    return files


@functools.cache
def chart() -> helm_python.Chart:
    """The chart, which does not change while tests run."""
    return helm_python.Chart.load(CHART)


def rendered(values: Values, *, name: str = "foretell", namespace: str = "predictions") -> list[Object]:
    """The objects that an installation would make.

    Raises:
        helm_python.errors.HelmError: the values are refused.
    """
    files = texts(values, name=name, namespace=namespace)
    documents = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [found for text in documents for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def check(found: Object, release: str) -> None:
    """See that an object has the fields of its kind, each of its type, and no other.

    Raises:
        jsonschema.ValidationError: it has not.
    """
    extension = EXTENSIONS.get(f"{found['apiVersion']}/{found['kind']}")
    if extension is None:
        validator(release, found["kind"], found["apiVersion"]).validate(found)
    else:
        jsonschema.validate(found["spec"], extension)


@functools.cache
def validator(release: str, kind: str, api_version: str) -> Draft202012Validator:
    """What a release of Kubernetes lets a kind have, by its own description of its API."""
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part)
    schema = json.loads((SCHEMAS / f"v{release}-local-strict" / f"{name}.json").read_text())
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ definitions(release))


@functools.cache
def definitions(release: str) -> Registry[Any]:
    """What the kinds of a release have in common."""
    schema = json.loads((SCHEMAS / f"v{release}-local-strict" / "_definitions.json").read_text())
    return Resource.from_contents(schema) @ Registry()


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind by their names."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pod_of(deployment: Object) -> Object:
    """The template of its pods."""
    return dict(deployment["spec"]["template"])


def container_of(deployment: Object) -> Object:
    """Its one container."""
    (container,) = pod_of(deployment)["spec"]["containers"]
    return dict(container)


def role_of(deployment: Object) -> str:
    """api, scheduler, or the queue of a worker."""
    return str(deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"])


def environment_of(deployment: Object) -> dict[str, str | None]:
    """The variables of its container; None: from a secret."""
    return {entry["name"]: entry.get("value") for entry in container_of(deployment)["env"]}
