"""Evaluates Kubernetes NetworkPolicies: which pod may open a connection to which address and port.

Follows networking.k8s.io/v1: policies only add, a pod that no policy of a direction selects is open in that
direction, and a connection needs the sender's egress and the receiver's ingress. Must never decide what is
right; k8s_check.py does.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pod:
    """One end of a connection. `policed` is False for pods outside the rendered manifests."""

    name: str
    namespace: str
    labels: dict = field(hash=False, default_factory=dict)
    namespace_labels: dict = field(hash=False, default_factory=dict)
    port_names: dict = field(hash=False, default_factory=dict)
    # A cluster's pods have private addresses: an ipBlock that holds this one lets pods through.
    address: str = "10.244.0.9"
    policed: bool = True


def selects(selector: dict | None, labels: dict) -> bool:
    """A label selector; an empty one selects everything."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or [])


def _expression(expression: dict, labels: dict) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"unknown operator {expression['operator']}")


def _peer(peer: dict, policy_namespace: str, other: Pod) -> bool:
    if "ipBlock" in peer:
        return _in_block(peer["ipBlock"], other.address)
    if "namespaceSelector" in peer:
        in_namespace = selects(peer["namespaceSelector"], other.namespace_labels)
    else:
        in_namespace = other.namespace == policy_namespace
    return in_namespace and selects(peer.get("podSelector"), other.labels)


def _in_block(block: dict, address: str) -> bool:
    ip = ipaddress.ip_address(address)
    held = lambda cidr: ip in ipaddress.ip_network(cidr)  # noqa: E731
    return held(block["cidr"]) and not any(held(cidr) for cidr in block.get("except") or [])


def _port(rule_port: dict, receiver: Pod, port: int, protocol: str) -> bool:
    if rule_port.get("protocol", "TCP") != protocol:
        return False
    first = rule_port.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return receiver.port_names.get(first) == port
    return first <= port <= rule_port.get("endPort", first)


def _types(spec: dict) -> list[str]:
    return spec.get("policyTypes") or ["Ingress"] + (["Egress"] if "egress" in spec else [])


def _allowed(policies: list, direction: str, pod: Pod, other: Pod, receiver: Pod, port: int, protocol: str) -> bool:
    if not pod.policed:
        return True
    here = [
        p
        for p in policies
        if p["metadata"].get("namespace") == pod.namespace
        and direction in _types(p["spec"])
        and selects(p["spec"].get("podSelector"), pod.labels)
    ]
    peers = "from" if direction == "Ingress" else "to"
    return not here or any(
        (not rule.get(peers) or any(_peer(peer, pod.namespace, other) for peer in rule[peers]))
        and (not rule.get("ports") or any(_port(rp, receiver, port, protocol) for rp in rule["ports"]))
        for policy in here
        for rule in policy["spec"].get(direction.lower()) or []
    )


def may_send(policies: list, sender: Pod, receiver: Pod, port: int, protocol: str = "TCP") -> bool:
    """The sender's half of a connection."""
    return _allowed(policies, "Egress", sender, receiver, receiver, port, protocol)


def may_receive(policies: list, sender: Pod, receiver: Pod, port: int, protocol: str = "TCP") -> bool:
    """The receiver's half of a connection."""
    return _allowed(policies, "Ingress", receiver, sender, receiver, port, protocol)
