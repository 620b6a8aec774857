"""`serving.expose`: a host name outside the cluster for the serving Service, by an Ingress or through a Gateway."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from toxicity_api.base import API_GROUP, Document
from toxicity_api.spec.fields import cel
from toxicity_api.spec.pod_settings import ObjectName

# the last label starts with a letter, as top-level domains do: Kubernetes refuses IP addresses
HOST = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?$"
NAMESPACE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
KEPT_PREFIX = f"{API_GROUP}/"
"""Prefix of annotations that the operator sets."""

Scheme = Literal["https", "http"]
Namespace = Annotated[str, Field(min_length=1, max_length=63, pattern=NAMESPACE)]

ONE_WAY = "serving.expose needs either ingress or gateway: set one of them, and remove the other"
ANNOTATIONS_MESSAGE = (
    f"serving.expose.ingress.annotations must not contain a key with the prefix {KEPT_PREFIX}, which the operator sets:"
    " remove the key"
)


class IngressRoute(Document):
    """An Ingress of the networking.k8s.io API."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                cel(
                    f"!has(self.annotations) || self.annotations.all(key, !key.startsWith('{KEPT_PREFIX}'))",
                    ANNOTATIONS_MESSAGE,
                )
            ]
        }
    }

    class_name: ObjectName | None = Field(
        None,
        description="Name of the IngressClass. Unset means the cluster's default class at the time when the Ingress is"
        " created.",
    )
    tls_secret_name: ObjectName | None = Field(
        None,
        description="Name of the TLS Secret with the certificate of the host, in the resource's namespace. Unset means"
        " that the Ingress has no TLS section.",
    )
    scheme: Scheme | None = Field(
        None,
        description="Scheme of the URL in the status. Unset means https with tlsSecretName, and http without it.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        max_length=64,
        description="Annotations of the Ingress, for its controller or cert-manager. Unset means none.",
    )


class GatewayRoute(Document):
    """The Gateway of the Gateway API to which an HTTPRoute is attached. Its listener has the certificate."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        None, description="Namespace of the Gateway. Unset means the resource's namespace."
    )
    section_name: ObjectName | None = Field(
        None, description="Name of the Gateway's listener. Unset means every listener that accepts the host."
    )
    scheme: Scheme = Field("https", description="Scheme of the URL in the status: that of the listener.")


class Expose(Document):
    """A route from outside the cluster to the Service. Changes start no roll-out."""

    model_config = {
        "json_schema_extra": {
            "x-kubernetes-validations": [cel("has(self.ingress) != has(self.gateway)", ONE_WAY)],
        }
    }

    host: str = Field(
        min_length=1,
        max_length=253,
        pattern=HOST,
        description="Host name at which clients reach the service, such as toxicity.example.org. All paths are routed.",
    )
    ingress: IngressRoute | None = Field(
        None, description="Creates an Ingress. Exactly one of ingress and gateway must be set."
    )
    gateway: GatewayRoute | None = Field(
        None,
        description="Creates an HTTPRoute for this Gateway. The Gateway API must be installed. Exactly one of ingress"
        " and gateway must be set.",
    )

    @property
    def url(self) -> str:
        """URL at which clients reach the service."""
        return f"{self._scheme}://{self.host}"

    @property
    def _scheme(self) -> Scheme:
        if self.ingress is not None:
            return self.ingress.scheme or ("https" if self.ingress.tls_secret_name else "http")
        return self.gateway.scheme if self.gateway else "https"
