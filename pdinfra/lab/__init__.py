"""Several real hosts on one machine: systemd containers, each with an SSH daemon and an engine."""
