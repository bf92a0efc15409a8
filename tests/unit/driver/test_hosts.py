"""How a command gets onto a host: as it is, or as one line for the shell behind ssh."""

from __future__ import annotations

import shlex

from pdinfra.driver.hosts import on_host

COMMAND = ["docker", "run", "-c", "a && b > 'c d'"]


def test_on_this_machine_a_command_stays_as_it_is() -> None:
    assert on_host("a", {"ansible_connection": "local", "ansible_become": True}, COMMAND) == COMMAND


def test_over_ssh_every_word_arrives_as_it_was() -> None:
    variables = {
        "ansible_host": "10.0.0.1",
        "ansible_user": "ops",
        "ansible_port": 2222,
        "ansible_ssh_private_key_file": "/keys/one",
        "ansible_ssh_common_args": "-o 'UserKnownHostsFile=/a b'",
    }
    *ssh, line = on_host("a", variables, COMMAND)
    assert ssh == [
        "ssh", "-i", "/keys/one", "-o", "UserKnownHostsFile=/a b", "-p", "2222", "ops@10.0.0.1",
    ]  # fmt: skip
    assert shlex.split(line) == COMMAND


def test_become_is_sudo_over_there_and_the_name_is_the_address_where_there_is_no_other() -> None:
    *ssh, line = on_host("a", {"ansible_become": True}, COMMAND)
    assert ssh == ["ssh", "-p", "22", "a"]
    assert shlex.split(line) == ["sudo", *COMMAND]
