"""Reads rendered Kubernetes manifests and the defaults of the configuration for k8s_check.py, and finds things in
them. Must never judge them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

COMPONENT = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"


class Manifests:
    """One rendered kustomization."""

    def __init__(self, label: str, documents: list, defaults: dict | None):
        self.label, self.defaults = label, defaults
        self.documents = [d for d in documents if d]

    def of(self, *kinds: str) -> list:
        return [d for d in self.documents if d["kind"] in kinds]

    def role(self, kind: str, role: str) -> list:
        return [d for d in self.of(kind) if label_of(d, NAME) == "toolcrib" and label_of(d, COMPONENT) == role]

    def role_deployments(self) -> list:
        """Every Deployment but Redis: those of the roles, and any that should not be there."""
        return [d for d in self.of("Deployment") if label_of(d, NAME) != "redis"]

    def workloads(self) -> list:
        return self.of("Deployment", "StatefulSet", "DaemonSet", "Job")

    def config(self) -> dict:
        texts = [m["data"]["toolcrib.toml"] for m in self.of("ConfigMap") if "toolcrib.toml" in m.get("data", {})]
        return tomllib.loads(texts[0]) if texts else {}


def label_of(document: dict, key: str) -> str | None:
    return document["metadata"].get("labels", {}).get(key)


def title(document: dict) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def pod_spec(workload: dict) -> dict:
    return workload["spec"]["template"]["spec"]


def containers(workload: dict) -> list:
    spec = pod_spec(workload)
    return spec["containers"] + spec.get("initContainers", [])


def grpc_port(deployment: dict) -> int | None:
    ports = pod_spec(deployment)["containers"][0].get("ports", [])
    return next((p["containerPort"] for p in ports if p.get("name") == "grpc"), None)


def env_of(workload: dict) -> dict:
    """The environment of its first container: name to value, or None where the value comes from elsewhere."""
    return {e["name"]: e.get("value") for e in pod_spec(workload)["containers"][0].get("env", [])}


def quantity(text) -> float:
    """A Kubernetes quantity of bytes or processors, such as 512Mi or 250m."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text or 0)).groups()
    return float(number) * (units[unit] if unit else 1)


def flat(table: dict, prefix: str = "") -> dict:
    """A TOML table as {"section.key": value}."""
    out = {}
    for key, value in table.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def read_defaults(path: Path) -> dict | None:
    """default.toml; a key that is commented out (it has no default) counts as known."""
    if not path.is_file():
        return None
    uncommented = re.sub(r"(?m)^#\s*(?=[a-z_]+ = \S+$)", "", path.read_text())
    try:
        return tomllib.loads(uncommented)
    except tomllib.TOMLDecodeError:
        return tomllib.loads(path.read_text())
