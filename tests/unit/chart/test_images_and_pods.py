"""Image references with mirrors and digests, and what people add to the operator's objects and pods."""

from __future__ import annotations

import pytest

from support.chart import Documents, Render, environment, of_kind, operator_container, people_of
from toxicity_cluster.errors import CommandFailed

DIGEST = f"sha256:{'5e' * 32}"


@pytest.mark.parametrize(
    ("assignments", "reference"),
    [
        ("", "localhost/toxicity-serving:VERSION"),
        ("images.serving.tag=7", "localhost/toxicity-serving:7"),
        (f"images.serving.digest={DIGEST}", f"localhost/toxicity-serving@{DIGEST}"),
        (f"images.serving.tag=7,images.serving.digest={DIGEST}", f"localhost/toxicity-serving:7@{DIGEST}"),
        ("images.serving.registry=one.example,images.serving.repository=a/b", "one.example/a/b:VERSION"),
        ("images.serving.registry=", "toxicity-serving:VERSION"),
        ("global.imageRegistry=mirror.example:5000/hub", "mirror.example:5000/hub/toxicity-serving:VERSION"),
        ("global.imageRegistry=mirror.example,images.serving=one.example/a/b:1", "one.example/a/b:1"),
    ],
)
def test_reference_of_an_image(render: Render, assignments: str, reference: str) -> None:
    documents = render("--set-string", assignments) if assignments else render()
    version = of_kind(documents, "Deployment")["metadata"]["labels"]["app.kubernetes.io/version"]
    found = environment(operator_container(documents))["IMAGE_SERVING"]
    assert found == reference.replace("VERSION", version)


def test_only_the_image_of_autoawq_may_be_absent(render: Render) -> None:
    container = operator_container(render("--set", "images.quantizationAutoawq.repository="))
    assert environment(container)["IMAGE_QUANTIZATION_AUTOAWQ"] == ""
    with pytest.raises(CommandFailed, match=r"images\.serving\.repository is empty: set the path"):
        render("--set", "images.serving.repository=")


def test_mirror_serves_every_image(render: Render) -> None:
    documents = render("--set", "global.imageRegistry=mirror.example")
    container = operator_container(documents)
    (tester,) = of_kind(documents, "Pod")["spec"]["containers"]
    stages = [value for name, value in environment(container).items() if name.startswith("IMAGE_")]
    assert len(stages) == 5
    assert {image.partition("/")[0] for image in [container["image"], tester["image"], *stages]} == {
        "mirror.example"
    }


def test_common_labels_are_on_every_object_and_in_no_selector(render: Render) -> None:
    documents = render(
        "--set", "commonLabels.team=a,commonLabels.tier=b,operator.podLabels.tier=c,crds.enabled=false",
        "--set", "podDisruptionBudget.enabled=true,networkPolicy.enabled=true,grafanaDashboard.enabled=true",
    )  # fmt: skip
    assert len(documents) > 10
    assert [d["kind"] for d in documents if d["metadata"]["labels"].get("team") != "a"] == []
    deployment = of_kind(documents, "Deployment")["spec"]
    pod = deployment["template"]["metadata"]["labels"]
    assert (pod["team"], pod["tier"]) == ("a", "c")
    for selector in (
        deployment["selector"]["matchLabels"],
        of_kind(documents, "Service")["spec"]["selector"],
        of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert not {"team", "tier"} & selector.keys()
        assert selector.items() <= pod.items()


def test_an_existing_service_account_gets_the_permissions(render: Render) -> None:
    documents = render("--set", "serviceAccount.create=false,serviceAccount.name=mine")
    assert "ServiceAccount" not in {document["kind"] for document in documents}
    assert of_kind(documents, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    bindings = [of_kind(documents, kind) for kind in ("ClusterRoleBinding", "RoleBinding")]
    assert [subject["name"] for binding in bindings for subject in binding["subjects"]] == ["mine", "mine"]
    assert [d for d in documents if d["kind"] == "ClusterRole" and not people_of(d)]


def test_created_service_account_has_the_annotations(everything: Documents) -> None:
    account = of_kind(everything, "ServiceAccount")["metadata"]
    assert (account["name"], account["annotations"]) == ("moderation-operator", {"example.com/role": "operator"})
    assert of_kind(everything, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]


def test_spread_selects_the_operators_pods_unless_it_says_which(render: Render) -> None:
    spread = "operator.topologySpreadConstraints"
    documents = render("--set", f"{spread}[0].topologyKey=zone,{spread}[1].labelSelector.matchLabels.app=x")
    deployment = of_kind(documents, "Deployment")["spec"]
    first, second = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert first == {"topologyKey": "zone", "labelSelector": deployment["selector"]}
    assert second["labelSelector"] == {"matchLabels": {"app": "x"}}
