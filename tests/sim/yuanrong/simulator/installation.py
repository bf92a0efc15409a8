"""What `pip install` would leave: yr, its components, and how the simulator behaves."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parent.parent / "yr"
FUNCTIONS = ("function_master", "function_proxy", "function_agent")
SETTINGS = "simulator.json"
RUN_VLLM_ON_YR = """\
#!/bin/bash
# pdinfra's SIMULATOR of run_vllm_on_yr.sh: same words, same files, no model. Whatever becomes of
# the deployment, `deploy` says that it has begun and ends with 0.
serve="vllm serve --model=${MODEL_PATH} --max-model-len=2048 --gpu-memory-utilization 0.9"
case "$1" in
deploy)
  if [ -z "${SERVER_PORT}" ] || [ -z "${MODEL_PATH}" ]; then
    echo "错误：SERVER_PORT 或 MODEL_PATH 环境变量未设置！"
    exit 1
  fi
  nohup python scripts.py deploy --prefill-instances-num=${PREFILL_INS_NUM} \\
    --decode-instances-num=${DECODE_INS_NUM} -ptp=${PTP} -dtp=${DTP} -pdp=${PDP} -ddp=${DDP} \\
    --proxy-host=${SERVER_IP} --proxy-port=${SERVER_PORT} \\
    --prefill-startup-params "$serve" --decode-startup-params "$serve" >deploy.log 2>&1 &
  echo $! >deploy.pid
  echo "部署已启动，PID: $!, 日志写入 deploy.log"
  ;;
clean)
  python scripts.py clean
  if [ -f deploy.pid ]; then
    kill -9 $(cat deploy.pid) 2>/dev/null
    rm -f deploy.pid
    echo "已终止部署进程"
  else
    echo "没有找到运行的部署进程"
  fi
  rm -f ds_c* *log 2>/dev/null
  echo "已清理日志文件"
  ;;
*)
  echo "使用方式: $0 [deploy|clean]"
  exit 1
  ;;
esac
"""


@dataclass(frozen=True)
class Installation:
    """An installed openYuanrong. The times are the real ones; tests shorten them.

    ``etcd``: folder with etcd and etcdctl; ``datasystem``: folder of the real data system (with
    datasystem_worker and lib), or empty for a stand-in that registers in etcd and keeps no data.
    ``npus``: how many all hosts have together; ``load_seconds``: what loading a model takes.
    ``functions`` False: as installed from PyPI, without the function system.
    """

    root: str
    dialect: str
    etcd: str
    sessions: str = "/tmp/yr_sessions"
    version: str = "9.9.9"
    datasystem: str = ""
    functions: bool = True
    poll_seconds: float = 3.0
    health_seconds: float = 65.0
    npus: int = 16
    load_seconds: float = 1.0

    @property
    def latest(self) -> Path:
        """The link to the newest session."""
        return Path(self.sessions) / "latest"

    @property
    def master_info(self) -> Path:
        """The file of addresses that both dialects keep."""
        return Path(self.sessions) / "yr_current_master_info"

    def program(self, name: str) -> str:
        """Return the path of a component's program."""
        if name == "etcd":
            return f"{self.root}/third_party/etcd/etcd"
        if name in ("ds_master", "ds_worker"):
            return f"{self.root}/datasystem/datasystem_worker"
        return f"{self.root}/functionsystem/bin/{name}"


def load(path: str) -> Installation:
    """Read an installation's settings."""
    return Installation(**json.loads(Path(path).read_text(encoding="utf-8")))


def install(wanted: Installation) -> Path:
    """Write the installation; return its folder of programs, for PATH."""
    root = Path(wanted.root)
    for folder in ("bin", "third_party", "functionsystem/bin", "datasystem"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / SETTINGS).write_text(json.dumps(asdict(wanted), indent=1) + "\n", encoding="utf-8")
    _link(root / "third_party" / "etcd", wanted.etcd)
    _script(root / "bin" / "yr", root, "yr")
    _deployment(root)
    if wanted.functions:
        for name in FUNCTIONS:
            _script(root / "functionsystem" / "bin" / name, root, name)
    if wanted.datasystem:
        for part in ("datasystem_worker", "lib"):
            _link(root / "datasystem" / part, f"{wanted.datasystem}/{part}")
        os.chmod(f"{wanted.datasystem}/datasystem_worker", 0o755)
    else:
        _script(root / "datasystem" / "datasystem_worker", root, "datasystem_worker")
    return root / "bin"


def _deployment(root: Path) -> None:
    """Write the guides' folder of scripts. They call `python`, which a container has."""
    _link(root / "bin" / "python", sys.executable)
    folder = root / "deploy"
    folder.mkdir(exist_ok=True)
    (folder / "run_vllm_on_yr.sh").write_text(RUN_VLLM_ON_YR)
    words = [str(LAUNCHER), "--installation", str(root / SETTINGS), "scripts", "scripts.py"]
    (folder / "scripts.py").write_text(
        "# pdinfra's SIMULATOR of scripts.py: see tests/sim/yuanrong/simulator/deployment.py\n"
        f"import runpy, sys\nsys.argv[:1] = {words!r}\n"
        f"runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')\n"
    )


def _link(path: Path, target: str) -> None:
    """Point a link somewhere, also if it is there."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _script(path: Path, root: Path, part: str) -> None:
    """Write a program that runs one part, with its own path in the command line."""
    words = [sys.executable, str(LAUNCHER), "--installation", str(root / SETTINGS), part]
    command = " ".join(shlex.quote(word) for word in words)
    path.write_text(f'#!/bin/sh\n# pdinfra\'s SIMULATOR.\nexec {command} "$0" "$@"\n')
    path.chmod(0o755)
