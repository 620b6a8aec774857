"""Validation of `serving.expose`, and the URL that it makes."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import a_model
from toxicity_api.spec.expose import Expose
from toxicity_operator.errors import InvalidSpec

HOST = "toxicity.example.org"


@pytest.mark.parametrize(
    ("way", "url"),
    [
        ({"ingress": {}}, f"http://{HOST}"),
        ({"ingress": {"tlsSecretName": "toxicity-tls"}}, f"https://{HOST}"),
        ({"ingress": {"scheme": "https"}}, f"https://{HOST}"),
        ({"ingress": {"tlsSecretName": "toxicity-tls", "scheme": "http"}}, f"http://{HOST}"),
        ({"gateway": {"name": "public"}}, f"https://{HOST}"),
        ({"gateway": {"name": "public", "scheme": "http"}}, f"http://{HOST}"),
    ],
)
def test_url_has_the_scheme_that_clients_use(way: dict[str, Any], url: str) -> None:
    assert Expose.model_validate({"host": HOST, **way}).url == url


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "https://toxicity.example.org"),
        ("host", "toxicity.example.org:443"),
        ("host", "toxicity.example.org/v1"),
        ("host", "*.example.org"),
        ("host", "Toxicity.example.org"),
        ("host", "192.0.2.7"),
        ("host", f"{'a.' * 126}bc"),
        ("host", ""),
        ("ingress.className", "a class"),
        ("ingress.tlsSecretName", ""),
        ("gateway.name", "Public"),
        ("gateway.namespace", "infra.example"),
        ("gateway.sectionName", ""),
        ("gateway.scheme", "ftp"),
    ],
)
def test_value_that_kubernetes_would_refuse_is_refused_with_its_field(field: str, value: Any) -> None:
    way = {"gateway": {"name": "public"}} if field.startswith("gateway") else {"ingress": {}}
    builder = a_model().with_spec("serving.expose", {"host": HOST, **way})
    with pytest.raises(InvalidSpec, match=f"serving.expose.{field}"):
        builder.with_spec(f"serving.expose.{field}", value).build()
