"""The thin driver: runs the playbooks, shows progress, hands back their results."""
