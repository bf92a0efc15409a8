"""`python -m tests.sim.hub FOLDER`: serve a folder of models as a SIMULATED hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.sim.hub.server import Faults, Hub


def main() -> None:
    """Serve until interrupted; print each model's commit."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.hub",
        description="A SIMULATOR of a model hub for tests: it answers like Hugging Face and like "
        "ModelScope, from a folder ORG/NAME/files. It is neither of them.",
    )
    parser.add_argument("folder", type=Path, help="folder with ORG/NAME/files")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8980, help="port to listen on")
    parser.add_argument("--cdn", default="", help="URL that large files are redirected to")
    parser.add_argument("--token", default="", help="answer 401 without this token")
    parser.add_argument("--cut-after", type=int, default=0, help="cut each file once, at this byte")
    parser.add_argument(
        "--wrong", action="append", default=[], help="send this file with wrong bytes"
    )
    parser.add_argument("--missing", action="append", default=[], help="answer 404 for this file")
    parser.add_argument(
        "--busy",
        action="append",
        type=int,
        default=[],
        help="status of the next request",
    )
    parser.add_argument("--slow", type=int, default=0, help="bytes per second of each file")
    chosen = parser.parse_args()
    faults = Faults(
        token=chosen.token,
        cut_after=chosen.cut_after,
        wrong=set(chosen.wrong),
        missing=set(chosen.missing),
        busy=list(chosen.busy),
        slow=chosen.slow,
    )
    with Hub(chosen.folder, (chosen.address, chosen.port), faults, cdn=chosen.cdn) as hub:
        print(f"SIMULATED hub at {hub.url}", flush=True)
        for path in sorted(p for p in chosen.folder.glob("*/*") if p.is_dir()):
            repo = f"{path.parent.name}/{path.name}"
            print(f"{repo} {hub.commit(repo)}", flush=True)
        hub.serve_forever()


if __name__ == "__main__":
    main()
