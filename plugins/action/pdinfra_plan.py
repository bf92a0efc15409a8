"""Thin shell: the inventory as Ansible sees it → pdinfra's plan, to be registered."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pdinfra import assets, authority, operator_files
from pdinfra.model.problems import InvalidInventoryError, Problem
from pdinfra.planning.load import INTERNAL, PREFIX, load
from pdinfra.planning.plan import build
from pdinfra.planning.twin import mixed_twin
from pdinfra.stacks import STACKS

CONNECTION = ("ansible_host", "ansible_connection")
TWIN = "pd_twin"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Validate and plan the whole service, once, on the controller."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return ``plan``; or fail with every problem of the inventory at once.

        ``authority_dir`` is where the controller keeps the service's certificate authority.
        Argument: ``files`` (default true), whether what the operator brings is looked at. With the
        extra variable ``pd_twin`` it is the inventory's mixed twin that is planned.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        groups = {name: list(hosts) for name, hosts in variables["groups"].items()}
        try:
            told = load_extra_vars(self._loader)
            hostvars = _hostvars(variables["hostvars"], groups["all"], {TWIN} & {*told})
            inventory = load(groups, hostvars)
            if boolean(told.get(TWIN, False)):
                inventory = mixed_twin(inventory)
            service = inventory.service.service
            state = operator_files.UNSEEN
            looks = boolean(self._task.args.get("files", True))
            if looks and STACKS[inventory.service.stack].clustered(inventory.service):
                state = operator_files.read(inventory.service)
            plan = build(inventory, assets.load(), authority.known(service), state)
        except InvalidInventoryError as error:
            problems = [problem.model_dump() for problem in error.problems]
            return {**result, "failed": True, "msg": str(error), "pd_problems": problems}
        result["authority_dir"] = str(authority.folder(service))
        return {**result, "changed": False, "plan": plan.dump()}


def _hostvars(hostvars: Any, hosts: list[str], told: set[str]) -> dict[str, dict[str, Any]]:
    """Return every host's own pd_ variables, templated, as plain JSON data.

    told: extra variables, which every host has, that are no part of the inventory.
    """
    ours = INTERNAL | told
    found: dict[str, dict[str, Any]] = {}
    problems = []
    for host in hosts:
        mine = found.setdefault(host, {})
        for name in hostvars.raw_get(host):
            if name in ours or not (name.startswith(PREFIX) or name in CONNECTION):
                continue
            try:
                mine[name] = json.loads(json.dumps(hostvars[host][name]))
            except (AnsibleError, TypeError, ValueError) as error:
                cause = str(error).splitlines()[0]
                problem = Problem(host=host, thing=name, cause=cause, fix="correct its template")
                problems.append(problem)
    if problems:
        raise InvalidInventoryError(problems)
    return found
