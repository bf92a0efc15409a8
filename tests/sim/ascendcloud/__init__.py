"""pdinfra's SIMULATOR of the AscendCloud-LLM bundle."""
