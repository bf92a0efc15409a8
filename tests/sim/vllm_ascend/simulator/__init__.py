"""SIMULATOR of vllm-ascend: what the plugin checks at start, then real vLLM on CPU."""
