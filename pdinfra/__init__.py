"""pdinfra: one inventory in, one proven prefill/decode-disaggregated LLM service out."""

__version__ = "0.1.0"
