"""The service's entry: vllm-router behind a front whose members join and leave without a restart.

vllm-router 0.1.17 takes its members as arguments and refuses to change them while it runs with
prefill and decode apart ("PD router requires specific add_prefill_server ... methods", measured).
So a change of members starts a second vllm-router, hands new requests over to it once it is ready,
and stops the first when the requests that it still has are answered.
"""
