r"""Weights from openYuanrong's data system, as a load format of vLLM.

    vllm serve MODEL --load-format yuanrong \\
        --model-loader-extra-config '{"worker": "10.0.0.2:31501"}'

The first instance of a model reads its weights from disk and publishes them; the
next ones fetch them. On any doubt an instance reads all its weights from disk.

``settings``, ``names``, ``identity`` and ``manifest`` are pure; ``store`` speaks to
the data system; ``host`` and ``device`` are the two ways bytes go; ``fetch`` and
``publish`` decide; ``loader`` is what vLLM sees.
"""

from __future__ import annotations


def register() -> bool:
    """Make the load format known to vLLM; return whether this vLLM has load formats to add to."""
    try:
        from vllm.model_executor.model_loader import register_model_loader
    except ImportError:
        return False
    from pdinfra_vllm.yuanrong_load.loader import YuanrongLoader

    register_model_loader(FORMAT)(YuanrongLoader)
    return True


FORMAT = "yuanrong"
"""The value of ``--load-format``."""
