"""Defaults of the chart for the pods of every resource, and their combination with the fields of one resource. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from pydantic import Field, ValidationError

from toxicity_api.base import Document
from toxicity_api.spec import EnvVar, PodFields, PodSettings, Toleration, ToxicityModelSpec, Volume, VolumeMount

CA_VOLUME = "ca-bundle"
CA_FOLDER = "/etc/toxicity-ca"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Variables from which OpenSSL, httpx and requests read the path of the CA certificates."""

CLUSTER_HOSTS = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local", "$(KUBERNETES_SERVICE_HOST)")
"""Hosts that no proxy serves: the load test sends its requests to a Service, and its results to the API server."""

ItemT = TypeVar("ItemT")


class Proxy(Document):
    """URLs of the proxy. An empty one is not set."""

    http: str = ""
    https: str = ""
    exceptions: list[str] = Field(default_factory=list)

    def variables(self) -> dict[str, str]:
        """The environment variables, in both notations, since curl reads only the lower case of http_proxy."""
        urls = {name: url for name, url in (("http_proxy", self.http), ("https_proxy", self.https)) if url}
        if not urls:
            return {}
        found = {**urls, "no_proxy": ",".join((*CLUSTER_HOSTS, *self.exceptions))}
        return {name: value for key, value in found.items() for name in (key.upper(), key)}


class CaBundle(Document):
    """A file with all trusted CA certificates, from a ConfigMap in the namespace of each resource."""

    config_map_name: str = ""
    key: str = "ca.crt"


class PodDefaults(PodSettings):
    """The chart's defaults. The fields of a resource have precedence."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    proxy: Proxy = Field(default_factory=Proxy)
    ca_bundle: CaBundle = Field(default_factory=CaBundle)
    hub_endpoint: str = ""

    def pod_settings(self) -> PodSettings:
        """The fields of `pod`, with the variables and the volume of the proxy, the CA bundle and the hub mirror."""
        own = PodSettings.model_validate(self.model_dump(include=set(PodSettings.model_fields)))
        variables, volumes, mounts = self.proxy.variables(), [], []
        if self.hub_endpoint:
            variables["HF_ENDPOINT"] = self.hub_endpoint
        if self.ca_bundle.config_map_name:
            variables |= dict.fromkeys(CA_VARIABLES, f"{CA_FOLDER}/{self.ca_bundle.key}")
            source = {"name": self.ca_bundle.config_map_name}
            volumes = [Volume(name=CA_VOLUME, config_map=source)]
            mounts = [VolumeMount(name=CA_VOLUME, mount_path=CA_FOLDER, read_only=True)]
        env = [EnvVar(name=name, value=value) for name, value in variables.items()]
        return merged(PodSettings(env=env, volumes=volumes, volume_mounts=mounts), own)


def read_pod_defaults(text: str) -> PodDefaults:
    """Parse the JSON of the chart's `pods`. Raises ValueError, which names every invalid or unknown field."""
    try:
        return PodDefaults.model_validate_json(text or "{}", extra="forbid")
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(('pods', *map(str, item['loc'])))}: {item['msg']}" for item in error.errors()
        )
        raise ValueError(f"POD_DEFAULTS is invalid: {problems}; correct the values of the chart") from error


def with_pod_defaults(spec: ToxicityModelSpec, defaults: PodDefaults) -> ToxicityModelSpec:
    """The spec whose stages have the defaults in all pod fields that they leave unset."""
    if defaults == PodDefaults():
        return spec
    shared = defaults.pod_settings()
    # the load test has a ServiceAccount of its own
    without_account = shared.model_copy(update={"service_account_name": None})
    return spec.model_copy(
        update={
            "training": _filled(spec.training, defaults, shared),
            "quantization": _filled(spec.quantization, defaults, shared),
            "serving": _filled(spec.serving, defaults, shared),
            "load_test": _filled(spec.load_test, defaults, without_account),
        }
    )


FieldsT = TypeVar("FieldsT", bound=PodFields)


def _filled(fields: FieldsT, defaults: PodDefaults, shared: PodSettings) -> FieldsT:
    tolerations = [*defaults.tolerations, *(t for t in fields.tolerations if t not in defaults.tolerations)]
    return fields.model_copy(
        update={
            "node_selector": {**defaults.node_selector, **fields.node_selector},
            "tolerations": tolerations,
            "pod": merged(shared, fields.settings),
        }
    )


def merged(defaults: PodSettings, own: PodSettings) -> PodSettings:
    """Both settings together. `own` has precedence: by key in maps, by name in lists, else as a whole."""
    chosen = own.model_dump(exclude_defaults=True, exclude_none=True).keys()
    return defaults.model_copy(
        update={
            **{name: getattr(own, name) for name in chosen},
            "labels": {**defaults.labels, **own.labels},
            "annotations": {**defaults.annotations, **own.annotations},
            "env": _by_key(defaults.env, own.env, lambda item: item.name),
            "env_from": [*defaults.env_from, *own.env_from],
            "volumes": _by_key(defaults.volumes, own.volumes, lambda volume: volume.name),
            "volume_mounts": _by_key(defaults.volume_mounts, own.volume_mounts, lambda mount: mount.mount_path),
        }
    )


def _by_key(defaults: Iterable[ItemT], own: Iterable[ItemT], key: Callable[[ItemT], Hashable]) -> list[ItemT]:
    """The items of both. An own item replaces the default with the same key, at its place."""
    found = {key(item): item for item in defaults}
    return list((found | {key(item): item for item in own}).values())
