"""A simulated ``.run`` package: a shell header in makeself's manner, and a payload behind it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from . import installer
from .host import Host, is_root
from .installer import Kind, Mode, Package, Request

MARK = "\n__PDINFRA_SIMULATED_PAYLOAD__\n"
HEADER = """\
#!/bin/sh
# {title}
# pdinfra's SIMULATOR of a driver package: it installs no real driver.
# SHA256 of the payload: {digest}
home=${{PDINFRA_SIM_HOME:-/opt/pdinfra-sim}}
exec "$home/run-package" "$0" "$@"
exit 1"""
HELP = """\
{title}
pdinfra's SIMULATOR of a Huawei package. It installs no real driver.
options: --full --upgrade --uninstall [--force] --check --version --quiet --noexec --nox11
         --install-for-all --install-username=NAME --install-usergroup=NAME --install-path=PATH"""
IGNORED = ("--quiet", "--nox11", "--force", "--norebuild", "--repack", "--run", "--devel")
MODES: dict[str, Mode] = {"--full": "full", "--upgrade": "upgrade", "--uninstall": "uninstall"}


def file_name(package: Package) -> str:
    """Return the name that Huawei gives such a package."""
    if package.kind == "firmware":
        return f"Ascend-hdk-910b-npu-firmware_{package.version}.run"
    return f"Ascend-hdk-910b-npu-driver_{package.version}_linux-{package.arch}.run"


def make(package: Package, folder: Path) -> Path:
    """Write a package into a folder; return its path."""
    body = base64.b64encode(json.dumps(asdict(package)).encode()).decode()
    digest = hashlib.sha256(body.encode()).hexdigest()
    path = folder / file_name(package)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER.format(title=_title(package), digest=digest) + MARK + body + "\n")
    path.chmod(0o755)
    return path


def _title(package: Package) -> str:
    """Return the name that the archive has of itself."""
    return f"ASCEND {package.kind.upper()} RUN PACKAGE {package.version}"


def opened(path: Path) -> Package | None:
    """Return what a package holds, or None when its payload is damaged."""
    header, _, body = path.read_text(errors="replace").partition(MARK)
    body = body.strip()
    digest = hashlib.sha256(body.encode()).hexdigest()
    if f"SHA256 of the payload: {digest}" not in header:
        return None
    return Package(**json.loads(base64.b64decode(body)))


def main(argv: Sequence[str]) -> int:
    """Run a package: its path, then the words it was called with. Returns the exit code."""
    host = Host.current()
    words = list(argv)
    if words[:1] == ["--uninstall-kind"]:
        package = Package(cast(Kind, words[1]), "", None, "ok")
        return installer.run(host, package, Request("uninstall"))
    path, words = Path(words[0]), words[1:]
    package_or_none = opened(path)
    if package_or_none is None:
        print("Verifying archive integrity... Error in SHA256 checksums")
        return 1
    package = package_or_none
    title = _title(package)
    if "--help" in words or not words:
        print(HELP.format(title=title))
        return 0
    if "--version" in words:
        print(f"{package.kind} package version: {package.version}")
        return 0
    request = _request(words)
    if request is None:
        print(f"ERR_NO:0x0004;ERR_DES:Unrecognized parameters: {' '.join(words)}")
        return 1
    print("Verifying archive integrity...  100%   SHA256 checksums are OK. All good.")
    if "--check" in words:
        return 0
    print(f"Uncompressing {title.rpartition(' ')[0]}  100%")
    if "--noexec" in words:
        return 0
    code = installer.run(host, package, request)
    if is_root():
        installer.log_operation(host, [path.name, *words], code)
    return code


def _request(words: list[str]) -> Request | None:
    """Return what the words ask for, or None when they cannot be understood."""
    modes = [MODES[word] for word in words if word in MODES]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    flags = {word for word in words if "=" not in word and word not in MODES}
    known = {"--install-username", "--install-usergroup", "--install-path"}
    if set(values) - known or flags - {*IGNORED, "--install-for-all", "--check", "--noexec"}:
        return None
    if not modes and not flags & {"--check", "--noexec"}:
        return None
    if len(modes) > 1:
        return None
    mode: Mode = modes[0] if modes else "full"
    for_all = "--install-for-all" in flags
    if mode == "upgrade" and (for_all or "--install-path" in values):
        return None
    return Request(
        mode, values.get("--install-username"), values.get("--install-usergroup"), for_all
    )
