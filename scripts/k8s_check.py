"""Checks rendered Kubernetes manifests against what toolcrib promises: the call graph, probes, the restricted
security context, pinned images, configuration keys that exist. Prints one line a check, `ok` or `FAIL`, and
one indented line a fault. Must never need a cluster.

usage: k8s_check.py LABEL RENDERED.yaml --defaults default.toml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from k8s_manifests import (
    COMPONENT, NAME, Manifests, containers, env_of, flat, grpc_port, label_of, pod_spec, quantity, read_defaults, title,
)  # fmt: skip
from k8s_network import Pod, may_receive, may_send, selects

# The declared call graph: who opens connections to whom. services/README.md tells the same.
CALLS = {
    "edge": ["registry", "selector", "executor", "permissions", "audit"],
    "registry": ["permissions", "audit"],
    "selector": ["registry", "permissions"],
    "executor": ["registry", "selector", "permissions", "audit"],
    "permissions": ["registry", "audit"],
    "audit": ["selector", "executor", "permissions"],
}
USES_DATABASE = ["registry", "selector", "executor", "permissions", "audit", "migrate"]
USES_INTERNET = ["registry", "executor", "permissions"]
# Only where there is one: see components/redis.
USES_REDIS = ["edge", "executor"]
SECRETS = {"database.url", "redis.urls", "security.caller_token_key", "security.api_key_pepper"}
SECRET_KEYS = {"tls.crt", "tls.key", "ca.crt", "database-url", "redis-url", "redis-password", "caller-token-key", "api-key-pepper", "credential-keys", "audit-keys", "audit-signing-key"}
# What a program of the sandbox may keep on disk, and what the executor needs beside its programs, in bytes.
SANDBOX_DISK, EXECUTOR_MEMORY = 256 << 20, 512 << 20

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"]
PRIVATE = [
    "0.0.0.1", "10.0.0.1", "10.96.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.254",
    "192.168.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fc00::1", "fd00:ec2::254",
    "64:ff9b::a00:1", "2002:a00:1::1", "::ffff:10.0.0.1",
]  # fmt: skip


# The checks: each yields one line a fault.


def roles_are_complete(m: Manifests):
    """every role has its own Deployment, Service, ServiceAccount and PodDisruptionBudget"""
    for role in CALLS:
        for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
            if (found := len(m.role(kind, role))) != 1:
                yield f"{role}: {found} of kind {kind}"
        for d in m.role("Deployment", role):
            args = pod_spec(d)["containers"][0].get("args", [])
            if args[:3] != ["serve", "--roles", role]:
                yield f"{title(d)}: args are {args}"
            if d["spec"].get("replicas", 1) < 1:
                yield f"{title(d)}: no replicas"
    for d in m.role_deployments():
        if label_of(d, COMPONENT) not in CALLS:
            yield f"{title(d)}: not a role of the call graph"


def probes_fit(m: Manifests):
    """every role has gRPC startup, liveness and readiness probes on its port"""
    for d in m.role_deployments():
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = pod_spec(d)["containers"][0].get(name) or {}
            # A probe can show no certificate: then health has a port of its own.
            health = env_of(d).get("TOOLCRIB__TLS__HEALTH_LISTEN", "").rpartition(":")[2]
            wanted = int(health) if health else grpc_port(d)
            if (port := (probe.get("grpc") or {}).get("port")) != wanted or port is None:
                yield f"{title(d)}: {name} asks port {port}, health is told on {wanted}"
        role = label_of(d, COMPONENT)
        service = (pod_spec(d)["containers"][0].get("readinessProbe", {}).get("grpc") or {}).get("service")
        wanted = None if role == "edge" else f"toolcrib.{role}.v1.{str(role).capitalize()}Service"
        if service != wanted:
            yield f"{title(d)}: readinessProbe asks for {service}, the role reports {wanted}"


def pods_are_restricted(m: Manifests):
    """every pod runs restricted, read-only and without a service account token"""
    for w in m.workloads():
        spec = pod_spec(w)
        security = spec.get("securityContext") or {}
        wanted = {
            "runAsNonRoot": security.get("runAsNonRoot") is True and security.get("runAsUser", 1) != 0,
            "seccompProfile": (security.get("seccompProfile") or {}).get("type") == "RuntimeDefault",
            "automountServiceAccountToken": spec.get("automountServiceAccountToken") is False,
            "enableServiceLinks": spec.get("enableServiceLinks") is False,
            "serviceAccountName": spec.get("serviceAccountName") in [a["metadata"]["name"] for a in m.of("ServiceAccount")],
            "host namespaces": not any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")),
            "volumes": not any("hostPath" in v for v in spec.get("volumes", [])),
        }
        bounds = {(k, u) for k in ("requests", "limits") for u in ("cpu", "memory")}
        if label_of(w, COMPONENT) == "executor":
            bounds.remove(("limits", "cpu"))  # see the_executor_holds_its_programs
        for c in containers(w):
            own = c.get("securityContext") or {}
            wanted |= {
                "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
                "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
                "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                "privileged": not own.get("privileged") and own.get("runAsUser", 1) != 0 and own.get("runAsNonRoot", True),
                "resources": all((c.get("resources", {}).get(k) or {}).get(u) for k, u in bounds),
            }
            for key in [k for k, ok in wanted.items() if not ok]:
                yield f"{title(w)}: {c['name']}: {key} is missing or too wide"


def images_are_pinned(m: Manifests):
    """every image has a tag or digest, and it is not latest"""
    for w in m.workloads():
        for c in containers(w):
            tag = c["image"].rsplit("/", 1)[-1].partition(":")[2]
            if "@sha256:" not in c["image"] and tag in ("", "latest"):
                yield f"{title(w)}: image {c['image']}"


def pods_stop_gracefully(m: Manifests):
    """a role's grace period is longer than its preStop sleep and drain"""
    drain_of_all = flat(m.config()).get("server.drain_timeout_s", flat(m.defaults or {}).get("server.drain_timeout_s", 20))
    for d in m.role_deployments():
        drain = int(env_of(d).get("TOOLCRIB__SERVER__DRAIN_TIMEOUT_S") or drain_of_all)
        sleep = pod_spec(d)["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = pod_spec(d).get("terminationGracePeriodSeconds", 30)
        if grace <= drain + sleep:
            yield f"{title(d)}: terminationGracePeriodSeconds {grace} <= preStop {sleep} + drain_timeout_s {drain}"


def services_select_their_role(m: Manifests):
    """every Service selects its own role; peers' are headless, the edge's is not"""
    for role in CALLS:
        for s in m.role("Service", role):
            hit = [d for d in m.role_deployments() if selects({"matchLabels": s["spec"].get("selector")}, d["spec"]["template"]["metadata"]["labels"])]
            if [label_of(d, COMPONENT) for d in hit] != [role]:
                yield f"{title(s)}: selects {[title(d) for d in hit]}"
            if (s["spec"].get("clusterIP") == "None") == (role == "edge"):
                yield f"{title(s)}: clusterIP is {s['spec'].get('clusterIP')}"
            ports = [(p["port"], p.get("targetPort")) for p in s["spec"].get("ports", [])]
            if hit and ports != [(grpc_port(hit[0]), "grpc")]:
                yield f"{title(s)}: ports {ports}, the role listens on {grpc_port(hit[0])}"
    for budget in m.of("PodDisruptionBudget"):
        hit = [d for d in m.role_deployments() if selects(budget["spec"]["selector"], d["spec"]["template"]["metadata"]["labels"])]
        if [label_of(d, COMPONENT) for d in hit] != [label_of(budget, COMPONENT)]:
            yield f"{title(budget)}: selects {[title(d) for d in hit]}"


def config_keys_exist(m: Manifests):
    """every configuration key used is one that toolcrib knows"""
    if m.defaults is None:
        yield "the defaults (default.toml) are missing: no key can be checked"
        return
    known = set(flat(m.defaults)) | SECRETS
    for key in flat(m.config()):
        if key not in known:
            yield f"toolcrib.toml: unknown key {key}"
        if key in SECRETS:
            yield f"toolcrib.toml: the secret {key} stands in a ConfigMap"
    for w in m.workloads():
        for env in (e for c in containers(w) for e in c.get("env", []) if e["name"].startswith("TOOLCRIB__")):
            key = env["name"].removeprefix("TOOLCRIB__").lower().replace("__", ".")
            if key not in known:
                yield f"{title(w)}: {env['name']}: unknown key {key}"
            if key in SECRETS and "secretKeyRef" not in env.get("valueFrom", {}):
                yield f"{title(w)}: {env['name']} does not come from a Secret"


def config_fits_the_manifests(m: Manifests):
    """listen addresses, peers, mounts and ConfigMap references agree with the manifests"""
    config = flat(m.config())
    names = {c["metadata"]["name"] for c in m.of("ConfigMap")}
    for role in CALLS:
        for d in m.role("Deployment", role):
            port, volumes = grpc_port(d), pod_spec(d).get("volumes", [])
            if (listen := config.get(f"{role}.listen")) != f"0.0.0.0:{port}":
                yield f"{title(d)}: containerPort {port}, but {role}.listen is {listen}"
            service = (m.role("Service", role) or [d])[0]["metadata"]["name"]
            for caller in m.role_deployments() if role != "edge" else []:
                env = env_of(caller)
                scheme = "https" if "TOOLCRIB__TLS__CERTIFICATE_FILE" in env else "http"
                peer = env.get(f"TOOLCRIB__PEERS__{role.upper()}", config.get(f"peers.{role}"))
                if peer != f"{scheme}://{service}:{port}":
                    yield f"{title(d)}: reached at {scheme}://{service}:{port}, but peers.{role} of {title(caller)} is {peer}"
            if role != "edge" and "TOOLCRIB__TLS__CERTIFICATE_FILE" in env_of(d) and "TOOLCRIB__TLS__HEALTH_LISTEN" not in env_of(d):
                yield f"{title(d)}: asks for certificates, and its probes have no port without"
            for missing in [v for v in volumes if "configMap" in v and v["configMap"]["name"] not in names]:
                yield f"{title(d)}: there is no ConfigMap {missing['configMap']['name']}"
            writable = {v["name"] for v in volumes if "emptyDir" in v or "persistentVolumeClaim" in v}
            paths = [x["mountPath"] for x in pod_spec(d)["containers"][0].get("volumeMounts", []) if x["name"] in writable]
            if role == "executor" and config.get("executor.workspace_root") not in paths:
                yield f"{title(d)}: workspace_root {config.get('executor.workspace_root')} is not a writable mount"


def the_executor_holds_its_programs(m: Manifests):
    """the executor's pod has room for all programs of its sandbox, and no CPU limit that they could use up"""
    setting = (flat(m.defaults or {}) | flat(m.config())).get
    programs = setting("executor.sandbox.max_concurrent", 0)
    for d in m.role("Deployment", "executor"):
        container, volumes = pod_spec(d)["containers"][0], pod_spec(d).get("volumes", [])
        limits = container["resources"]["limits"]
        if "cpu" in limits:
            yield f"{title(d)}: has a CPU limit: one busy program would hold up the whole pod"
        if quantity(limits.get("memory")) < (need := programs * setting("executor.sandbox.memory_bytes", 0) + EXECUTOR_MEMORY):
            yield f"{title(d)}: {programs} programs and the service need {need} bytes of memory, the limit is {limits.get('memory')}"
        sizes = {v["name"]: quantity(v["emptyDir"].get("sizeLimit")) for v in volumes if "emptyDir" in v}
        root = setting("executor.sandbox.work_root")
        mounted = [sizes.get(x["name"], 0) for x in container.get("volumeMounts", []) if x["mountPath"] == root]
        if not mounted or mounted[0] < programs * SANDBOX_DISK:
            yield f"{title(d)}: no volume of {programs * SANDBOX_DISK} bytes at work_root {root}"
        if quantity(limits.get("ephemeral-storage")) < sum(sizes.values()):
            yield f"{title(d)}: its volumes may hold {sum(sizes.values()):.0f} bytes, the limit is {limits.get('ephemeral-storage')}"


def rates_hold_over_replicas(m: Manifests):
    """edge and executor share a Redis where an overlay has more than one of them, each knowing how many they are"""
    for d in m.role_deployments():
        role, env, replicas = label_of(d, COMPONENT), env_of(d), d["spec"].get("replicas", 1)
        if "TOOLCRIB__REDIS__URLS" not in env:
            if role in USES_REDIS and replicas > 1 and m.label.startswith("overlays/"):
                yield f"{title(d)}: {replicas} replicas without Redis: each admits the whole rate"
            continue
        if role not in USES_REDIS:
            yield f"{title(d)}: has no use for Redis"
        if env.get("TOOLCRIB__REDIS__REPLICAS") != str(replicas):
            yield f"{title(d)}: {replicas} replicas, but redis.replicas is {env.get('TOOLCRIB__REDIS__REPLICAS')}"
        if role == "executor" and env.get("TOOLCRIB__EXECUTOR__CACHE__VARIANT") != "redis":
            yield f"{title(d)}: has Redis, and its cache is not there"


def redis_may_be_lost(m: Manifests):
    """Redis is one, keeps nothing on disk, forgets what is least used, and stays within its memory"""
    for d in (d for d in m.workloads() if label_of(d, NAME) == "redis"):
        container, strategy = pod_spec(d)["containers"][0], d["spec"].get("strategy", {}).get("type")
        if (d["kind"], d["spec"].get("replicas", 1), strategy) != ("Deployment", 1, "Recreate"):
            yield f"{title(d)}: there may be two at once, which count apart"
        if pod_spec(d).get("volumes"):
            yield f"{title(d)}: has volumes"
        lines = [line.strip() for line in container["args"][-1].splitlines()]
        for line in ('save ""', "appendonly no", "maxmemory-policy allkeys-lru", "requirepass $REDIS_PASSWORD"):
            if line not in lines:
                yield f"{title(d)}: its configuration lacks `{line}`"
        most = [int(x.removeprefix("maxmemory ").removesuffix("mb")) << 20 for x in lines if x.startswith("maxmemory ")]
        # A third more for connections and fragments, which maxmemory does not count.
        if not most or most[0] * 4 / 3 > quantity(container["resources"]["limits"]["memory"]):
            yield f"{title(d)}: maxmemory {most} leaves no room below the limit {container['resources']['limits']['memory']}"


def secrets_are_named(m: Manifests):
    """only documented Secret keys are used, the base holds none, an overlay's holds all that is used"""
    secrets = {s["metadata"]["name"]: set(s.get("data", {})) | set(s.get("stringData", {})) for s in m.of("Secret")}
    if secrets and not m.label.startswith("overlays/"):
        yield f"{m.label}: holds the Secrets {sorted(secrets)}"
    for w in m.workloads():
        for ref in (e["valueFrom"]["secretKeyRef"] for c in containers(w) for e in c.get("env", []) if "secretKeyRef" in e.get("valueFrom", {})):
            if ref["key"] not in secrets.get(ref["name"], SECRET_KEYS):
                yield f"{title(w)}: Secret {ref['name']} has no key {ref['key']}"
        for secret in (v["secret"] for v in w["spec"]["template"]["spec"].get("volumes", []) if "secret" in v):
            for item in secret.get("items", [{"key": "every key"}]):
                if item["key"] not in secrets.get(secret["secretName"], SECRET_KEYS):
                    yield f"{title(w)}: Secret {secret['secretName']} has no key {item['key']}, which a volume holds"


def namespace_is_restricted(m: Manifests):
    """one namespace, Pod Security `restricted`, everything inside it"""
    spaces = m.of("Namespace")
    if len(spaces) != 1:
        yield f"{len(spaces)} namespaces"
        return
    for mode in ("enforce", "audit", "warn"):
        if label_of(spaces[0], f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"{title(spaces[0])}: pod-security {mode} is not restricted"
    for d in m.documents:
        if d["kind"] != "Namespace" and d["metadata"].get("namespace") != spaces[0]["metadata"]["name"]:
            yield f"{title(d)}: in namespace {d['metadata'].get('namespace')}"


def migration_can_be_repeated(m: Manifests):
    """one migration Job, which an overlay names after its image tag"""
    jobs = [j for j in m.of("Job") if pod_spec(j)["containers"][0].get("args") == ["migrate"]]
    if len(jobs) != 1:
        yield f"{len(jobs)} migration Jobs"
    for j in jobs:
        tag = pod_spec(j)["containers"][0]["image"].rsplit(":", 1)[-1]
        if m.label.startswith("overlays/") and j["metadata"]["name"] != f"toolcrib-migrate-{tag}":
            yield f"{title(j)}: not named after its image tag {tag}: a new version could not be applied"
        roles = {pod_spec(d)["containers"][0]["image"] for d in m.role_deployments()}
        if roles != {pod_spec(j)["containers"][0]["image"]}:
            yield f"{title(j)}: migrates with another image than the roles run: {sorted(roles)}"


def network_is_the_call_graph(m: Manifests):
    """the network policies allow exactly the declared call graph"""
    inside, outside = pods_of(m), strangers(m)
    policies, pods = m.of("NetworkPolicy"), inside + outside
    ports = sorted({p for pod in pods for p in pod.port_names.values()} | {53, 80, 443, 9999})
    wanted, found = expected_flows(m, inside), set()
    for sender in pods:
        for receiver in (p for p in pods if p is not sender and (sender.policed or p.policed)):
            for port, protocol in ((p, t) for p in ports for t in ("TCP", "UDP")):
                out, into = (half(policies, sender, receiver, port, protocol) for half in (may_send, may_receive))
                if out and into:
                    found.add((sender.name, receiver.name, port, protocol))
                elif out != into and sender.policed and receiver.policed:
                    yield f"{sender.name} -> {receiver.name}:{port}/{protocol}: only its {'egress' if out else 'ingress'} half is allowed"
    for word, flows in (("missing", wanted - found), ("not declared", found - wanted)):
        for sender, receiver, port, protocol in sorted(flows):
            yield f"{sender} -> {receiver}:{port}/{protocol}: {word}"


def internet_is_public_only(m: Manifests):
    """only executor, registry and permissions reach the internet, and never a private address"""
    policies = m.of("NetworkPolicy")
    for pod in pods_of(m):
        for address in PUBLIC + PRIVATE:
            wanted = address in PUBLIC and pod.name in USES_INTERNET
            for port in (80, 443):
                if may_send(policies, pod, Pod(address, "", address=address, policed=False), port) != wanted:
                    yield f"{pod.name} -> {address}:{port}: {'missing' if wanted else 'not declared'}"
            if may_send(policies, pod, Pod(address, "", address=address, policed=False), 22):
                yield f"{pod.name} -> {address}:22: not declared"


def pods_of(m: Manifests) -> list[Pod]:
    """One pod a workload, named by its component."""
    out = []
    for w in m.workloads():
        labels = w["spec"]["template"]["metadata"].get("labels", {})
        port_names = {p["name"]: p["containerPort"] for c in containers(w) for p in c.get("ports", []) if "name" in p}
        space = w["metadata"]["namespace"]
        out.append(Pod(labels.get(COMPONENT, title(w)), space, labels, {"kubernetes.io/metadata.name": space}, port_names))
    return out


def strangers(m: Manifests) -> list[Pod]:
    """Pods outside the manifests that a policy names, and some that none may let in."""
    home = m.of("Namespace")[0]["metadata"]["name"]
    stranger = lambda name, space, labels, ports=None, **marks: Pod(  # noqa: E731
        name, space, labels, {"kubernetes.io/metadata.name": space} | marks, ports or {}, policed=False
    )
    out = [
        stranger("dns", "kube-system", {"k8s-app": "kube-dns"}, {"dns": 53}),
        stranger("kube-system", "kube-system", {"k8s-app": "metrics-server"}),
        stranger("collector", "observability", {NAME: "opentelemetry-collector"}, {"otlp": 4317}),
        stranger("client", "agents", {"app": "agent"}, **{"toolcrib-client": "true"}),
        stranger("elsewhere", "elsewhere", {NAME: "toolcrib", COMPONENT: "edge"}),
        stranger("neighbour", home, {"app": "other"}),
    ]
    if not any(pod.name == "database" for pod in pods_of(m)):
        out.append(stranger("database", home, {NAME: "postgresql"}, {"postgres": 5432}))
    return out


def expected_flows(m: Manifests, inside: list[Pod]) -> set:
    port = {role: grpc_port(d) for role in CALLS for d in m.role("Deployment", role)}
    flows = {(a, b, port.get(b), "TCP") for a, callees in CALLS.items() for b in callees}
    flows |= {(role, "database", 5432, "TCP") for role in USES_DATABASE}
    flows |= {(role, "dns", 53, protocol) for role in [*CALLS, "migrate"] for protocol in ("TCP", "UDP")}
    if any(pod.name == "redis" for pod in inside):
        flows |= {(role, "redis", 6379, "TCP") for role in USES_REDIS}
    flows |= {("client", "edge", port.get("edge"), "TCP")}
    for d in m.role_deployments():
        names = [e["name"] for c in containers(d) for e in c.get("env", [])]
        if "TOOLCRIB__TELEMETRY__OTLP_ENDPOINT" in names or flat(m.config()).get("telemetry.otlp_endpoint"):
            flows.add((label_of(d, COMPONENT), "collector", 4317, "TCP"))
    return flows


CHECKS = [
    roles_are_complete, probes_fit, pods_are_restricted, images_are_pinned, pods_stop_gracefully,
    services_select_their_role, config_keys_exist, config_fits_the_manifests,
    the_executor_holds_its_programs, rates_hold_over_replicas, redis_may_be_lost, secrets_are_named, namespace_is_restricted,
    migration_can_be_repeated, network_is_the_call_graph, internet_is_public_only,
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label")
    parser.add_argument("rendered", type=Path)
    parser.add_argument("--defaults", type=Path, required=True)
    args = parser.parse_args()
    manifests = Manifests(args.label, list(yaml.safe_load_all(args.rendered.read_text())), read_defaults(args.defaults))
    failed = False
    for check in CHECKS:
        faults = sorted(set(check(manifests)))
        print(f"{'FAIL' if faults else 'ok  '} {args.label}: {check.__doc__}")
        print("".join(f"       {fault}\n" for fault in faults), end="")
        failed |= bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
