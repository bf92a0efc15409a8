"""Whether a host has the certificate that its part of the service needs."""

from __future__ import annotations

from pdinfra.model.changes import Change
from pdinfra.model.facts import HostFacts
from pdinfra.model.plan import HostPlan

RENEW_SECONDS = 30 * 24 * 3600
"""Before it ends: a run once a month keeps it valid."""


def certificate_changes(plan: HostPlan, authority: str, facts: HostFacts) -> list[Change]:
    """Return that a certificate is to be made, and why. authority: as in the plan's Store."""
    if plan.identity is None:
        return []
    reason = _gap(plan, authority, facts)
    if not reason:
        return []
    row = {"host": plan.name, "kind": "certificate", "id": plan.identity.folder}
    return [Change.model_validate({**row, "action": "create", "reason": reason})]


def _gap(plan: HostPlan, authority: str, facts: HostFacts) -> str:
    """Return what is wrong with the host's certificate; empty if nothing is."""
    assert plan.identity is not None
    folder = plan.identity.folder
    signer = facts.certificates.get(f"{folder}/ca.crt")
    own = facts.certificates.get(f"{folder}/node.crt")
    if signer is None or own is None:
        return "no certificate on the host"
    if signer.sha256 != authority:
        return "it is of another authority than the controller's"
    if plan.identity.address not in own.addresses:
        return f"it is for {', '.join(own.addresses)}, the host is {plan.identity.address}"
    days = int(own.expires - facts.clock) // 86400
    if own.expires - facts.clock < RENEW_SECONDS:
        return f"it ends in {days} days" if days >= 0 else "it has ended"
    return ""
