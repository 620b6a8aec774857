"""`python -m toxicity_reference` writes or checks the generated documentation of a checkout.

`--write ROOT` writes the files; `--check ROOT` fails when one is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from toxicity_reference.chart_readme import chart_readme
from toxicity_reference.http_api import openapi_json, openapi_page
from toxicity_reference.metrics import operator_metrics_page, service_metrics_page
from toxicity_reference.resource import resource_page
from toxicity_reference.values import values_page

FILES: Mapping[str, Callable[[], str]] = {
    "docs/reference/chart-values.md": values_page,
    "docs/reference/openapi.json": openapi_json,
    "docs/reference/openapi.md": openapi_page,
    "docs/reference/operator-metrics.md": operator_metrics_page,
    "docs/reference/service-metrics.md": service_metrics_page,
    "docs/reference/toxicitymodel.md": resource_page,
    "helm/toxicity-operator/README.md": chart_readme,
}
"""Path of each generated file with the function that renders it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files. Returns the exit code: 1 when a checked file is stale."""
    parser = argparse.ArgumentParser(prog="python -m toxicity_reference", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="ROOT", help="checkout to write the files to")
    action.add_argument("--check", type=Path, metavar="ROOT", help="checkout whose files must be up to date")
    options = parser.parse_args(arguments)
    folder: Path = options.write or options.check
    texts = {folder / name: render() for name, render in FILES.items()}
    if options.write:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [
        path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(f"{path} is stale: run `make generate`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
