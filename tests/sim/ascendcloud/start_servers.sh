#!/bin/sh
# pdinfra's SIMULATOR of AscendCloud-LLM's start_servers.sh; see README.md of tests/sim/ascendcloud.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
export PYTHONPATH="$here"
exec python3 -m simulator.main "$@"
