"""pdinfra's SIMULATOR: the connectors that vllm-ascend registers."""

CONNECTORS = ["LLMDataDistCMgrConnector"]
