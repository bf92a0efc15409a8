"""Let the modules find what they share, as Ansible's `module_utils` setting does."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

SHARED = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
ansible.module_utils.__path__.append(str(SHARED))
