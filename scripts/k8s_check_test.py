"""Proves that k8s_check.py still bites: breaks rendered manifests in memory, one way at a time, and expects the
check that guards against it to name the fault. Must never write a file.

usage: k8s_check_test.py DEV.yaml PRODUCTION.yaml --defaults default.toml      (the rendered overlays)
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import k8s_check as k
import yaml
from k8s_manifests import Manifests, pod_spec, read_defaults


def by_title(documents: list, wanted: str) -> dict:
    return next(d for d in documents if f"{d['kind']}/{d['metadata']['name']}" == wanted)


def container(documents: list, wanted: str) -> dict:
    return pod_spec(by_title(documents, wanted))["containers"][0]


def drop(documents: list, wanted: str) -> None:
    documents.remove(by_title(documents, wanted))


def edit_config(documents: list, old: str, new: str) -> None:
    data = next(d for d in documents if d["kind"] == "ConfigMap")["data"]
    assert old in data["toolcrib.toml"], old
    data["toolcrib.toml"] = data["toolcrib.toml"].replace(old, new)


def policy(documents: list, name: str) -> dict:
    return by_title(documents, f"NetworkPolicy/{name}")["spec"]


def set_env(documents: list, wanted: str, name: str, value: str) -> None:
    env = container(documents, wanted)["env"]
    env[:] = [e for e in env if e["name"] != name] + [{"name": name, "value": value}]


def edit_redis(documents: list, old: str, new: str) -> None:
    args = container(documents, REDIS)["args"]
    assert old in args[-1], old
    args[-1] = args[-1].replace(old, new)


def widen(documents: list, role: str) -> None:
    """Lets one more role through both halves of the way to Redis."""
    sender = policy(documents, "toolcrib-redis")["podSelector"]
    receiver = policy(documents, "redis")["ingress"][0]["from"][0]["podSelector"]
    for selector in (sender, receiver):
        next(e for e in selector["matchExpressions"] if e["key"] == k.COMPONENT)["values"].append(role)


EXECUTOR, AUDIT = "Deployment/toolcrib-executor", "Deployment/toolcrib-audit"
EDGE, REDIS = "Deployment/toolcrib-edge", "Deployment/redis"
JOB = "Job/toolcrib-migrate-0.1.0"

# (the check, how to break the manifests, a part of the fault it must name)
BREAKS = [
    (k.roles_are_complete, lambda d: drop(d, AUDIT), "audit: 0 of kind Deployment"),
    (k.roles_are_complete, lambda d: drop(d, "PodDisruptionBudget/toolcrib-edge"), "edge: 0 of kind PodDisruptionBudget"),
    (k.roles_are_complete, lambda d: container(d, AUDIT)["args"].__setitem__(2, "all"), "args are"),
    (k.probes_fit, lambda d: container(d, EXECUTOR).pop("livenessProbe"), "livenessProbe"),
    (k.probes_fit, lambda d: container(d, EXECUTOR)["startupProbe"]["grpc"].update(port=1), "asks port 1"),
    (k.probes_fit, lambda d: container(d, EXECUTOR)["readinessProbe"]["grpc"].pop("service"), "readinessProbe asks for None"),
    (k.pods_are_restricted, lambda d: pod_spec(by_title(d, AUDIT))["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
    (k.pods_are_restricted, lambda d: container(d, AUDIT)["securityContext"].pop("readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
    (k.pods_are_restricted, lambda d: container(d, JOB)["securityContext"]["capabilities"].update(add=["NET_RAW"]), "capabilities"),
    (k.pods_are_restricted, lambda d: container(d, "StatefulSet/postgres").pop("resources"), "resources"),
    (k.pods_are_restricted, lambda d: pod_spec(by_title(d, AUDIT)).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    (k.images_are_pinned, lambda d: container(d, AUDIT).update(image="toolcrib:latest"), "image toolcrib:latest"),
    (k.images_are_pinned, lambda d: container(d, AUDIT).update(image="host:5000/toolcrib"), "image host:5000/toolcrib"),
    (k.pods_stop_gracefully, lambda d: edit_config(d, "drain_timeout_s = 20", "drain_timeout_s = 60"), "drain_timeout_s 60"),
    (k.services_select_their_role, lambda d: by_title(d, "Service/toolcrib-audit")["spec"].pop("clusterIP"), "clusterIP is None"),
    (k.services_select_their_role, lambda d: by_title(d, "Service/toolcrib-edge")["spec"]["selector"].pop(k.COMPONENT), "selects"),
    (k.services_select_their_role, lambda d: by_title(d, "Service/toolcrib-audit")["spec"]["ports"][0].update(port=1), "ports"),
    (k.config_keys_exist, lambda d: edit_config(d, "log_format", "log_style"), "unknown key telemetry.log_style"),
    (k.config_keys_exist, lambda d: set_env(d, AUDIT, "TOOLCRIB__AUDIT__LISTENS", "x"), "unknown key audit.listens"),
    (k.config_keys_exist, lambda d: set_env(d, AUDIT, "TOOLCRIB__DATABASE__URL", "x"), "does not come from a Secret"),
    (k.config_fits_the_manifests, lambda d: edit_config(d, "toolcrib-audit:7705", "toolcrib-audit:7706"), "peers.audit of Deployment/toolcrib-edge is"),
    (k.config_fits_the_manifests, lambda d: set_env(d, AUDIT, "TOOLCRIB__TLS__CERTIFICATE_FILE", "x"), "its probes have no port without"),
    (k.probes_fit, lambda d: set_env(d, AUDIT, "TOOLCRIB__TLS__HEALTH_LISTEN", "0.0.0.0:7709"), "health is told on 7709"),
    (k.config_fits_the_manifests, lambda d: edit_config(d, "0.0.0.0:7703", "127.0.0.1:7703"), "executor.listen is 127.0.0.1:7703"),
    (k.config_fits_the_manifests, lambda d: edit_config(d, "/var/lib/toolcrib/work", "/srv"), "workspace_root /srv"),
    (k.secrets_are_named, lambda d: by_title(d, "Secret/toolcrib-secrets")["data"].pop("api-key-pepper"), "has no key api-key-pepper"),
    (k.namespace_is_restricted, lambda d: by_title(d, AUDIT)["metadata"].update(namespace="default"), "in namespace default"),
    (k.namespace_is_restricted, lambda d: by_title(d, "Namespace/toolcrib-dev")["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"}), "enforce is not restricted"),
    (k.migration_can_be_repeated, lambda d: container(d, JOB).update(image="toolcrib:0.2.0"), "not named after its image tag 0.2.0"),
    (k.migration_can_be_repeated, lambda d: drop(d, JOB), "0 migration Jobs"),
    (k.network_is_the_call_graph, lambda d: drop(d, "NetworkPolicy/default-deny"), "neighbour -> migrate:9999/TCP: not declared"),
    (k.network_is_the_call_graph, lambda d: drop(d, "NetworkPolicy/toolcrib-dns"), "edge -> dns:53/UDP: missing"),
    (k.network_is_the_call_graph, lambda d: policy(d, "toolcrib-edge")["egress"].pop(), "edge -> audit:7705/TCP: only its ingress half"),
    (k.network_is_the_call_graph, lambda d: policy(d, "toolcrib-audit")["ingress"][0].pop("from"), "client -> audit:7705/TCP: not declared"),
    (k.network_is_the_call_graph, lambda d: policy(d, "toolcrib-selector")["egress"][0].pop("ports"), "selector -> registry:9999/TCP: only its egress half"),
    (k.network_is_the_call_graph, lambda d: policy(d, "toolcrib-edge")["ingress"][0]["from"][0].update(namespaceSelector={}), "elsewhere -> edge:7700/TCP: not declared"),
    (k.network_is_the_call_graph, lambda d: policy(d, "postgres").pop("ingress"), "executor -> database:5432/TCP: only its egress half"),
    (k.network_is_the_call_graph, lambda d: set_env(d, AUDIT, "TOOLCRIB__TELEMETRY__OTLP_ENDPOINT", "x"), "audit -> collector:4317/TCP: missing"),
    (k.internet_is_public_only, lambda d: policy(d, "toolcrib-internet")["egress"][0]["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16"), "executor -> 169.254.169.254:80: not declared"),
    (k.internet_is_public_only, lambda d: policy(d, "toolcrib-internet").update(podSelector={}), "database -> 1.1.1.1:443: not declared"),
    (k.internet_is_public_only, lambda d: drop(d, "NetworkPolicy/toolcrib-internet"), "registry -> 1.1.1.1:443: missing"),
    (k.pods_stop_gracefully, lambda d: set_env(d, EXECUTOR, "TOOLCRIB__SERVER__DRAIN_TIMEOUT_S", "300"), "drain_timeout_s 300"),
    (k.the_executor_holds_its_programs, lambda d: container(d, EXECUTOR)["resources"]["limits"].update(cpu="2"), "has a CPU limit"),
    (k.pods_are_restricted, lambda d: container(d, EXECUTOR)["resources"]["requests"].pop("cpu"), "resources"),
    (k.pods_are_restricted, lambda d: container(d, AUDIT)["resources"]["limits"].pop("cpu"), "resources"),
    (k.the_executor_holds_its_programs, lambda d: edit_config(d, "max_concurrent = 4", "max_concurrent = 6"), "6 programs and the service need"),
    (k.the_executor_holds_its_programs, lambda d: edit_config(d, 'work_root = "/var/lib/toolcrib/sandbox"', 'work_root = "/tmp/sandbox"'), "at work_root /tmp/sandbox"),
    (k.the_executor_holds_its_programs, lambda d: container(d, EXECUTOR)["resources"]["limits"].update({"ephemeral-storage": "3Gi"}), "its volumes may hold"),
    (k.rates_hold_over_replicas, lambda d: by_title(d, EDGE)["spec"].update(replicas=2), "2 replicas without Redis"),
]  # fmt: skip

# The same, of the production overlay.
BREAKS_WITH_REDIS = [
    (k.rates_hold_over_replicas, lambda d: by_title(d, EXECUTOR)["spec"].update(replicas=3), "3 replicas, but redis.replicas is 2"),
    (k.rates_hold_over_replicas, lambda d: set_env(d, EXECUTOR, "TOOLCRIB__EXECUTOR__CACHE__VARIANT", "memory"), "its cache is not there"),
    (k.rates_hold_over_replicas, lambda d: set_env(d, AUDIT, "TOOLCRIB__REDIS__URLS", "x"), "has no use for Redis"),
    (k.config_keys_exist, lambda d: set_env(d, EDGE, "TOOLCRIB__REDIS__URLS", "redis://redis"), "does not come from a Secret"),
    (k.secrets_are_named, lambda d: container(d, REDIS)["env"][0]["valueFrom"]["secretKeyRef"].update(key="password"), "has no key password"),
    (k.pods_are_restricted, lambda d: container(d, REDIS)["resources"]["limits"].pop("cpu"), "resources"),
    (k.images_are_pinned, lambda d: container(d, REDIS).update(image="redis"), "image redis"),
    (k.redis_may_be_lost, lambda d: by_title(d, REDIS)["spec"].pop("strategy"), "two at once"),
    (k.redis_may_be_lost, lambda d: edit_redis(d, 'save ""', "save 60 1"), 'lacks `save ""`'),
    (k.redis_may_be_lost, lambda d: edit_redis(d, "allkeys-lru", "noeviction"), "lacks `maxmemory-policy allkeys-lru`"),
    (k.redis_may_be_lost, lambda d: edit_redis(d, "maxmemory 256mb", "maxmemory 384mb"), "leaves no room"),
    (k.redis_may_be_lost, lambda d: pod_spec(by_title(d, REDIS)).update(volumes=[{"name": "data", "emptyDir": {}}]), "has volumes"),
    (k.network_is_the_call_graph, lambda d: drop(d, "NetworkPolicy/redis"), "edge -> redis:6379/TCP: only its egress half"),
    (k.network_is_the_call_graph, lambda d: drop(d, "NetworkPolicy/toolcrib-redis"), "executor -> redis:6379/TCP: only its ingress half"),
    (k.network_is_the_call_graph, lambda d: policy(d, "redis")["ingress"][0].pop("from"), "neighbour -> redis:6379/TCP: not declared"),
    (k.network_is_the_call_graph, lambda d: policy(d, "redis")["ingress"][0].pop("ports"), "edge -> redis:80/TCP: only its ingress half"),
    (k.network_is_the_call_graph, lambda d: widen(d, "registry"), "registry -> redis:6379/TCP: not declared"),
    (k.network_is_the_call_graph, lambda d: policy(d, "redis").update(egress=[{}]), "redis -> neighbour:9999/TCP: not declared"),
]  # fmt: skip


def unnoticed(breaks: list, label: str, rendered: Path, defaults: dict | None) -> int:
    """Breaks one overlay in each way, and counts the faults that its check did not name."""
    documents = list(yaml.safe_load_all(rendered.read_text()))
    missed = 0
    for check, break_it, fault in breaks:
        broken = copy.deepcopy(documents)
        break_it(broken)
        found = sorted(check(Manifests(label, broken, defaults)))
        if not any(fault in line for line in found):
            missed += 1
            print(f"FAIL the checker: {check.__name__} did not report '{fault}' but {found}")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    parser.add_argument("production", type=Path)
    parser.add_argument("--defaults", type=Path, required=True)
    args = parser.parse_args()
    defaults = read_defaults(args.defaults)
    failed = unnoticed(BREAKS, "overlays/dev", args.dev, defaults)
    failed += unnoticed(BREAKS_WITH_REDIS, "overlays/production", args.production, defaults)
    tried = BREAKS + BREAKS_WITH_REDIS
    untested = {c.__name__ for c in k.CHECKS} - {c.__name__ for c, _, _ in tried}
    if untested:
        failed += 1
        print(f"FAIL the checker: no break tries {sorted(untested)}")
    if not failed:
        print(f"ok   the checker: reports each of {len(tried)} ways to break the manifests")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
