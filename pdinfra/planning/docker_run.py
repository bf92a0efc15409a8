"""A planned container → the `docker run` that a person would type for it, beside a guide's."""

from __future__ import annotations

import shlex

from pdinfra.model.plan import Container, Plan


def docker_runs(plan: Plan) -> dict[str, list[str]]:
    """Return each container's words, by id, in the plan's order."""
    return {c.id: docker_run(c) for host in plan.hosts for c in host.containers}


def docker_run(container: Container) -> list[str]:
    """Return what makes the same container by hand, but for labels, health check and log limits."""
    spec = container.spec
    words = ["docker", "run", "-d", f"--name={container.name}"]
    words += [f"--network={spec.network_mode}", f"--ipc={spec.ipc_mode}"]
    words += [f"--pid={spec.pid_mode}"] if spec.pid_mode else []
    words += [f"--shm-size={spec.shm_size}"] if spec.ipc_mode != "host" else []
    words += [f"--memory={spec.memory}"] if spec.memory else []
    words += ["--gpus", f'"device={",".join(spec.gpus)}"'] if spec.gpus else []
    words += [f"--device={device}" for device in spec.devices]
    for limit in spec.ulimits:
        name, soft, hard = limit.split(":")
        words.append(f"--ulimit={name}={soft}:{hard}")
    words += [f"--cap-drop={name}" for name in spec.cap_drop]
    words += [f"--security-opt={option}" for option in spec.security_opts]
    words += ["--privileged"] if spec.privileged else []
    words += ["--init"] if spec.init else []
    words += [f"--user={spec.user}"] if spec.user else []
    words += [f"--restart={spec.restart_policy}"]
    for mount in spec.mounts:
        mode = ",readonly" if mount.read_only else ""
        words += ["--mount", f"type=bind,source={mount.source},target={mount.target}{mode}"]
    for name, value in sorted(spec.env.items()):
        words += ["-e", f"{name}={value}"]
    return [*words, "--entrypoint=", spec.image, *spec.command]


def as_text(words: list[str]) -> str:
    """Return a command for a shell, an option with its value on each line."""
    lines, line = [], ""
    for word in words:
        if word.startswith("-") and line:
            lines.append(line)
            line = ""
        line += (" " if line else "") + shlex.quote(word)
    return " \\\n  ".join([*lines, line])
