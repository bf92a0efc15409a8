#!/usr/bin/python
# Copyright: pdinfra contributors. Licence: Apache-2.0
"""Ping addresses of the NPU network from a host's own devices."""

from __future__ import annotations

from typing import Any

from ansible.module_utils import pd_ascend
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pd_npu_ping
short_description: Ping over the NPU network
description:
  - Pings with C(hccn_tool), one call after the other, as the tool needs. Changes nothing.
  - Uses C(-hccs_ping) on A3 hosts, which C(npu-smi) tells, and C(-ping) on others.
  - Uses Python's standard library only.
options:
  targets:
    description: What to ping, and from which device.
    type: list
    elements: dict
    required: true
    suboptions:
      device:
        description: Physical id of the device that pings.
        type: int
        required: true
      address:
        description: Address to ping.
        type: str
        required: true
author: pdinfra contributors (@pdinfra)
"""

EXAMPLES = r"""
- name: Ping the decode devices
  pd_npu_ping:
    targets:
      - device: 0
        address: 10.20.0.12
  register: pinged
"""

RETURN = r"""
results:
  description: One entry for each target, in their order; C(rc) is null without an answer in time.
  type: list
  elements: dict
  returned: always
  sample:
    - device: 0
      address: 10.20.0.12
      rc: 0
      stdout: "3 packets transmitted, 3 received, 0.00% packet loss"
"""


def ping(targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ping every target, one after the other. Raises OSError on a host without hccn_tool."""
    found = pd_ascend.places(pd_ascend.HCCN_TOOL)
    if not found:
        raise OSError("no hccn_tool in %s" % ", ".join(pd_ascend.HCCN_TOOL))
    npu_smi = pd_ascend.places(pd_ascend.NPU_SMI)
    a3 = bool(npu_smi) and pd_ascend.is_a3(pd_ascend.run(npu_smi[0], "info", "-m")["stdout"])
    tool = pd_ascend.HccnTool(found[0])
    results = []
    for target in targets:
        question = "-hccs_ping" if a3 else "-ping"
        answer = tool.ask(target["device"], question, "-g", "address", target["address"])
        words = answer["stdout"] + answer["stderr"]
        results.append(dict(target, rc=answer["rc"], stdout=words))
    return results


def main() -> None:
    """Ping and return."""
    target = {
        "device": {"type": "int", "required": True},
        "address": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "dict", "required": True, "options": target},
        },
        supports_check_mode=True,
    )
    try:
        results = ping(module.params["targets"])
    except OSError as error:
        module.fail_json(msg="%s. Fix: install the Ascend driver" % error)
    module.exit_json(changed=False, results=results)


if __name__ == "__main__":
    main()
