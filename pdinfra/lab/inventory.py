"""The inventory that a lab writes: used like any other, and the user's from then on.

Pure text in, text out. Hosts are only ever added; what a user changed stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pdinfra.lab.names import QUAY, Lab

HEAD = """\
# The hosts of lab {name}. `lab up` adds hosts that are missing and touches no others: move hosts
# between the groups as you like.
---
"""

VARIABLES = """\
# yaml-language-server: $schema=../../../docs/inventory.schema.json
---
# How Ansible reaches the lab's hosts. Host keys are checked: the lab knows the real ones.
ansible_user: ops
ansible_become: true
ansible_python_interpreter: /usr/bin/python3
ansible_ssh_private_key_file: "{{{{ inventory_dir }}}}/../../.lab/{name}/id_ed25519"
ansible_ssh_common_args: >-
  -o UserKnownHostsFile={{{{ inventory_dir }}}}/../../.lab/{name}/known_hosts
  -o StrictHostKeyChecking=yes -o ServerAliveInterval=5 -o ServerAliveCountMax=3

pd_service: pd

# Built images are made once on this machine, pushed to the lab's registry on its loopback, and
# pulled by the hosts, for which the registry's name is {registry}.
pd_image_push: {push}/pdinfra
pd_image_registry: {registry}/pdinfra
"""


class _Dumper(yaml.SafeDumper):
    """Writes a host without variables as `node1:`, as people do."""


_Dumper.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
)


def variables(lab: Lab, push: str) -> str:
    """Return group_vars/all.yml. push: the registry's address on the machine."""
    return VARIABLES.format(name=lab.name, push=push, registry=QUAY)


def hosts(lab: Lab, addresses: Mapping[str, str], before: str | None) -> str:
    """Return hosts.yml with all hosts of the lab. before: the file as it is, if it is there.

    A file that lacks no host is returned as it is, comments and all. Raises ValueError, with what
    is wrong, if it is no YAML mapping.
    """
    tree = _parse(before)
    known = _mapping(_mapping(tree, "all"), "hosts")
    missing = [node for node in addresses if node not in known]
    if before is not None and not missing:
        return before
    groups = _mapping(tree["all"], "children")
    for node in missing:
        known[node] = {"ansible_host": addresses[node]}
        for group in default_groups(node, len(addresses) if not before else 0):
            _mapping(_mapping(groups, group), "hosts").setdefault(node, None)
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, default_flow_style=False)
    return HEAD.format(name=lab.name) + text


def default_groups(node: str, at_once: int) -> tuple[str, ...]:
    """Return the groups of a new host. at_once: hosts of a new inventory; 0: added later."""
    if at_once == 0:
        return ("decode",)
    if at_once == 1:
        return ("router", "prefill", "decode")
    if node == "node1":
        return ("router", "prefill") if at_once == 2 else ("router",)
    return ("prefill",) if node == "node2" and at_once > 2 else ("decode",)


def groups(text: str) -> dict[str, list[str]]:
    """Return each host's groups, as hosts.yml says. Raises ValueError as `hosts` does."""
    tree = _parse(text)
    found: dict[str, list[str]] = {}
    for group, content in (_mapping(tree, "all").get("children") or {}).items():
        for node in (content or {}).get("hosts") or {}:
            found.setdefault(node, []).append(group)
    return found


def stale(text: str, addresses: Mapping[str, str]) -> list[str]:
    """Return what hosts.yml says of hosts otherwise than the lab, one line each."""
    known = _mapping(_mapping(_parse(text), "all"), "hosts")
    lines = []
    for node, values in known.items():
        written = str((values or {}).get("ansible_host", ""))
        if node not in addresses:
            lines.append(f"{node} is in the inventory but not in the lab")
        elif written != addresses[node]:
            lines.append(f"{node} is {written} in the inventory, {addresses[node]} in the lab")
    return lines


def _parse(text: str | None) -> dict[str, Any]:
    """Return hosts.yml as a mapping."""
    try:
        tree = yaml.safe_load(text or "") or {}
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ValueError("not a mapping")
    return tree


def _mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping below a key; make it where there is none."""
    if tree.get(key) is None:
        tree[key] = {}
    if not isinstance(tree[key], dict):
        raise ValueError(f"{key} is not a mapping")
    found: dict[str, Any] = tree[key]
    return found
