"""The simulated daemon: starts a node's components in order and restarts what ends.

As yr/cli/system_launcher.py of 9.9.9: its log and session.json keep the caller's whole environment,
a failed start ends what it started and removes session.json, whoever wrote that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from .components import Component
from .installation import Installation


def launch(
    installation: Installation, plan: dict[str, Any], deploy: Path
) -> subprocess.Popen[bytes]:
    """Start a daemon of its own session, with everything world-writable."""
    log = deploy / plan["log"] / "yr_daemon.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    path = deploy / "simulated-plan.json"
    path.write_text(json.dumps(plan))
    yr = Path(__file__).resolve().parent.parent / "yr"
    settings = f"{installation.root}/simulator.json"
    with log.open("a") as out:
        return subprocess.Popen(
            [sys.executable, str(yr), "--installation", settings, "daemon", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            umask=0,
        )


def run(installation: Installation, plan_path: str) -> int:
    """Be the daemon; return the exit code."""
    plan = json.loads(Path(plan_path).read_text())
    return _Daemon(installation, plan).run()


class _Daemon:
    """One node's processes."""

    def __init__(self, installation: Installation, plan: dict[str, Any]) -> None:
        self.poll = installation.poll_seconds
        self.plan = plan
        self.deploy = Path(plan["deploy"])
        self.logs = self.deploy / plan["log"]
        self.session = self.deploy / "session.json"
        self.components = [Component(**row) for row in plan["components"]]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts: dict[str, int] = {}
        self.stopping = False

    def run(self) -> int:
        """Start everything, watch it, stop it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            for component in self.components:
                self._start(component)
                if not self._healthy(component):
                    _say("ERROR", f"{component.name}: process health check failed")
                    return self._end(1)
        except OSError as error:
            self._end(1)
            # A traceback, as the real daemon leaves one in its log.
            raise error
        self._save()
        self._announce()
        _say("INFO", "✅ All components are healthy!")
        while not self.stopping:
            time.sleep(self.poll)
            self._restart_ended()
        return self._end(0)

    def _start(self, component: Component) -> None:
        """Start one component. Raises OSError when there is no such program."""
        for folder in component.folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        _say("INFO", f"Starting {component.name}: {' '.join(component.command)}")
        _say("INFO", f"Environment: {dict(os.environ)}")
        with (self.logs / f"{component.name}_stdout.log").open("a") as out:
            self.processes[component.name] = subprocess.Popen(
                component.command,
                env={**os.environ, **component.env},
                cwd=self.deploy,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def _healthy(self, component: Component) -> bool:
        """Wait until a component is healthy; its process is looked at first, once a second."""
        end = time.monotonic() + component.seconds
        while time.monotonic() < end and not self.stopping:
            if self.processes[component.name].poll() is not None:
                return False
            if _answers(component):
                return True
            time.sleep(min(1.0, self.poll))
        return False

    def _restart_ended(self) -> None:
        """Start again what has ended, and write that down."""
        changed = False
        for component in self.components:
            if self.stopping or self.processes[component.name].poll() is None:
                continue
            _say("WARNING", f"Component {component.name} exited. Restarting...")
            self._start(component)
            self.restarts[component.name] = self.restarts.get(component.name, 0) + 1
            changed = True
        if changed:
            self._save()

    def _save(self) -> None:
        """Write session.json."""
        if self.plan["dialect"] != "toml":
            return
        rows = {
            component.name: {
                "pid": self.processes[component.name].pid,
                "status": "healthy",
                "cmd": component.command,
                "env_vars": {**os.environ, **component.env},
                "restart_count": self.restarts.get(component.name, 0),
            }
            for component in self.components
        }
        document = {
            "components": rows,
            "start_time": time.ctime(),
            "session_id": self.deploy.name,
            "mode": self.plan["mode"],
            "cluster_info": {"for-join": self.plan["join"], "daemon": {"pid": os.getpid()}},
        }
        fresh = Path(f"{self.session}.tmp")
        fresh.write_text(json.dumps(document, indent=2) + "\n")
        fresh.replace(self.session)

    def _announce(self) -> None:
        """Write the file of addresses: on a master in toml, on every node in flags."""
        if self.plan["announce"]:
            path = Path(self.plan["announce"])
            path.unlink(missing_ok=True)
            if self.plan["dialect"] == "flags":
                own = self.deploy / "master.info"
                own.write_text(self.plan["info"] + "\n")
                path.symlink_to(own)
            else:
                path.write_text(self.plan["info"] + "\n")

    def _stop(self, number: int, frame: object) -> None:
        """Be told to stop."""
        self.stopping = True
        self.session.unlink(missing_ok=True)

    def _end(self, code: int) -> int:
        """End all components, in reverse."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.kill() if code else process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.plan["dialect"] == "toml":
            self.session.unlink(missing_ok=True)
        return code


def _answers(component: Component) -> bool:
    """Ask one component for its health."""
    if component.check == "file":
        return Path(component.target).exists()
    url = f"{component.target}/health" if component.check == "etcd" else component.target
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _say(level: str, text: str) -> None:
    """Write one line of the log."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{stamp}.000 | {level:<7} | yr.cli.system_launcher:run:0 - {text}", flush=True)
