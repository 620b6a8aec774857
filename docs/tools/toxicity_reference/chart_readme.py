"""The README of the chart, from Chart.yaml and the values."""

from __future__ import annotations

import yaml

from toxicity_reference.markdown import GENERATED
from toxicity_reference.values import CHART, NOTES, values_table

PAGE = """
# {name}

{description}.

One `ToxicityModel` resource becomes LoRA training, AWQ quantization, an evaluation, serving with vLLM behind an
autoscaler, and a load test.

## Requirements

Kubernetes {kubernetes}, Helm 3.14 or newer, and nodes that can pull the images. Autoscaling needs a metrics server.

## Install

A release has the chart, as an OCI artifact, and its images below one prefix, here `registry.example/team`:

```
helm install toxicity-operator oci://registry.example/team/charts/{name} --version {version} \\
  -n toxicity-system --create-namespace
```

Set `global.imageRegistry` if the nodes pull from a mirror that keeps the paths of the images. From a checkout,
`make push REGISTRY=...` builds and pushes the images, and writes the values for them:

```
helm install toxicity-operator helm/{name} -n toxicity-system --create-namespace -f build/push/my-images.yaml
```

## Upgrade

```
helm upgrade toxicity-operator CHART -n toxicity-system --reset-then-reuse-values
```

Values files with full references (`images.operator: registry.example/team/toxicity-operator:1`) stay valid. Helm warns
that such a value is no table, and uses it.

## Uninstall

```
helm uninstall toxicity-operator -n toxicity-system
```

The CRD and every ToxicityModel stay (`crds.keep`). To remove them too, run this before you uninstall:

```
kubectl delete toxicitymodel --all --all-namespaces
kubectl delete crd toxicitymodels.toxicity.dev
```

## Values

"""


def chart_readme() -> str:
    """`README.md` of the chart."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    kubernetes = chart["kubeVersion"].removeprefix(">=").partition(".0-0")[0]
    page = PAGE.format(
        name=chart["name"],
        description=chart["description"],
        version=chart["version"],
        kubernetes=f"{kubernetes} or newer",
    )
    return GENERATED + page + NOTES + values_table()
