#!/usr/bin/env python3
"""Renders everything in deploy/ for Kubernetes and validates it against the API's own schemas.

The Helm chart is linted and rendered by Helm's library with its default values and with each file in deploy/helm/outboxd/ci; the
kustomizations are built by kubectl. Prints one JSON object: the objects of each rendering, by its name. Every problem is one line on
standard error, and then the exit code is 1. `--values FILE` renders the chart with these values instead, and nothing else.
Needs the packages of tests/parcel/requirements.txt (make install-tools).
"""

import json
import subprocess
import sys
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/outboxd"
KUSTOMIZATIONS = ["base", "production", "shop-with-sidecar"]
# The oldest that each rendering is for, and the newest whose schemas there are.
OLDEST = {"kustomize/shop-with-sidecar": "1.29"}
OLDEST_OF_OTHERS = "1.27"
# The part of PodMonitor that we use; its schema comes with the Prometheus operator, not with Kubernetes.
POD_MONITOR = {"selector", "podMetricsEndpoints", "jobLabel"}
POD_MONITOR_ENDPOINT = {"port", "path", "interval"}

problems = []


def lint():
    for finding in helm_python.lint(str(CHART))["messages"]:
        if finding["severity"] > 1:  # 1 is a recommendation, such as an icon
            problems.append(f"helm lint: {finding['path']}: {finding['error']}")


def render_chart(name, values):
    with helm_python.Chart.load(str(CHART)) as chart:
        try:
            chart.validate_schema(values)
            manifests = chart.render(values, name="outboxd", namespace="shop")
        except helm_python.HelmError as error:
            problems.append(f"{name}: {error}")
            return []
    texts = [text for path, text in sorted(manifests.items()) if not path.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def build(name):
    command = [str(Path(sys.executable).parent / "kubectl"), "kustomize", str(ROOT / "deploy/kustomize" / name)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        problems.append(f"kustomize/{name}: {built.stderr.strip()}")
    return [document for document in yaml.safe_load_all(built.stdout) if document]


def validate(rendering, document):
    name = f"{rendering}: {document.get('kind')}/{document.get('metadata', {}).get('name')}"
    if document.get("kind") == "PodMonitor":
        spec = document["spec"]
        unknown = set(spec) - POD_MONITOR
        unknown |= {key for endpoint in spec["podMetricsEndpoints"] for key in set(endpoint) - POD_MONITOR_ENDPOINT}
        problems.extend(f"{name}: unknown key {key}" for key in sorted(unknown))
        return
    for version in (OLDEST.get(rendering, OLDEST_OF_OTHERS), kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            problems.append(f"{name}: Kubernetes {version}: {error.message}")


def main(arguments):
    if arguments[:1] == ["--values"]:
        renderings = {"helm": render_chart("helm", yaml.safe_load(Path(arguments[1]).read_text()))}
    else:
        lint()
        renderings = {"helm/default": render_chart("helm/default", {})}
        for path in sorted((CHART / "ci").glob("*.yaml")):
            renderings[f"helm/{path.stem}"] = render_chart(f"helm/{path.stem}", yaml.safe_load(path.read_text()))
        renderings |= {f"kustomize/{name}": build(name) for name in KUSTOMIZATIONS}
    for rendering, documents in renderings.items():
        for document in documents:
            validate(rendering, document)
    print(json.dumps(renderings))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


sys.exit(main(sys.argv[1:]))
