"""The service's entry: checks requests and answers them by way of members that come and go.

Behind it is vllm-router, or pdinfra's own proxy for connectors that vllm-router does not speak.
vllm-router 0.1.17 takes its members as arguments and refuses to change them while it runs with
prefill and decode apart ("PD router requires specific add_prefill_server ... methods", measured).
So a change of members starts a second vllm-router, hands new requests over to it once it is ready,
and stops the first when the requests that it still has are answered. The proxy just asks the watch,
which both have: who is healthy, warmed up, and does something.
"""
