"""Tests of the hosts themselves against the plan, with pytest and testinfra; they change nothing.

``python -m pdinfra verify --hosts`` runs them, or pytest does:
``python -m pytest pdinfra/hosttests --inventory inventories/prod [--limit HOSTS]``.

The plan says what is expected and is computed once; each host is looked at once (look.py), what it
said is read (seen.py) and judged (judge.py) purely; each thing of the plan is a test of its own.
"""
