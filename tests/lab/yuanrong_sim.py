"""What an operator brings for openYuanrong's full mode, SIMULATED: image, wheels, patch, scripts.

The wheel openyuanrong has the simulated `yr`, in both dialects: the variable of DIALECT chooses, as
another set of wheels would. The data system is the real one of 0.8.1. There is no model.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import docker

from pdinfra.assets import digest
from pdinfra.lab.images import BASE, ensure_base
from tests.commands import ROOT
from tests.yuanrong.programs import DATASYSTEM, KEPT

SIM = ROOT / "tests" / "sim" / "yuanrong"
INSIDE = "/opt/pdinfra-sim"
DIALECT = "PDINFRA_SIM_DIALECT"
VERSION = DATASYSTEM.rpartition("=")[2]
EMPTY = ("openyuanrong_runtime", "openyuanrong_functionsystem")
TAG = "cp311-cp311-manylinux_2_34_x86_64"
YR = f"""\
#!/bin/sh
# pdinfra's SIMULATOR of openYuanrong's `yr`.
dialect=${{{DIALECT}:-toml}}
home={INSIDE}/$dialect
if [ ! -e $home/bin/yr ]; then
  packages=$(python3 -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  python3 {INSIDE}/yuanrong/yr install --into $home --dialect $dialect \\
    --etcd /usr/bin --datasystem $packages/yr/datasystem --poll 1 --health 60 --load 1 >/dev/null
fi
exec $home/bin/yr "$@"
"""
SCRIPTS = f"""\
# pdinfra's SIMULATOR of scripts.py.
import os, runpy, sys
home = "{INSIDE}/" + os.environ.get("{DIALECT}", "toml")
launcher = "{INSIDE}/yuanrong/yr"
sys.argv[:1] = [launcher, "--installation", home + "/simulator.json", "scripts", "scripts.py"]
runpy.run_path(launcher, run_name="__main__")
"""
PATCH = SIM / "image" / "0001-add-the-connector.patch"


def image(client: docker.DockerClient) -> str:
    """Build the stand-in of the vendor's image, if it is not there; return its name."""
    ensure_base(client, print)
    name = f"pdinfra-sim/vllm-ascend:v0.10.0rc1-openeuler-{digest(SIM)}"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SIM / "image", folder, dirs_exist_ok=True)
        shutil.copytree(
            SIM, Path(folder) / "simulator", ignore=shutil.ignore_patterns("__pycache__", "image")
        )
        client.images.build(path=folder, tag=name, buildargs={"BASE": BASE}, rm=True)
    return name


def brought(folder: Path) -> dict[str, Any]:
    """Write wheels and scripts below a folder; return the variables that name them."""
    wheels, scripts = folder / "wheels", folder / "deploy"
    wheels.mkdir(parents=True)
    _wheel(wheels, "openyuanrong", {f"openyuanrong-{VERSION}.data/scripts/yr": YR})
    for name in EMPTY:
        _wheel(wheels, name, {})
    _datasystem(wheels)
    scripts.mkdir()
    (scripts / "run_vllm_on_yr.sh").write_text(_run_vllm_on_yr())
    (scripts / "scripts.py").write_text(SCRIPTS)
    return {
        "pd_yuanrong_wheels_dir": str(wheels),
        "pd_yuanrong_wheels": {path.name: sha256(path) for path in sorted(wheels.iterdir())},
        "pd_yuanrong_patches": [{"path": str(PATCH), "sha256": sha256(PATCH)}],
        "pd_yuanrong_scripts_dir": str(scripts),
    }


def sha256(path: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run_vllm_on_yr() -> str:
    """Return the simulated script; the simulator is a program, not a package of the tests."""
    sys.path.insert(0, str(SIM))
    try:
        from simulator.installation import RUN_VLLM_ON_YR  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SIM))
    return str(RUN_VLLM_ON_YR)


def _wheel(folder: Path, project: str, files: dict[str, str]) -> None:
    """Write a wheel that pip installs."""
    about = f"{project}-{VERSION}.dist-info"
    whole = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {VERSION}\n"
        "Summary: pdinfra's SIMULATOR\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: pdinfra\nRoot-Is-Purelib: false\n"
        f"Tag: {TAG}\n",
    }
    whole[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*whole, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"{project}-{VERSION}-{TAG}.whl", "w") as made:
        for name, text in whole.items():
            # The same bytes each time: the image is named by them.
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16
            made.writestr(info, text)


def _datasystem(folder: Path) -> None:
    """Put the real data system there."""
    kept = KEPT / "wheels"
    if not list(kept.glob("openyuanrong_datasystem-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*command, str(kept), DATASYSTEM], check=True)
    shutil.copy(next(kept.glob("openyuanrong_datasystem-*.whl")), folder)
