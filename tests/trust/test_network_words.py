"""What a person is told of the network that an edge grants."""

from __future__ import annotations

from peer.trust.network_words import sentences


def test_a_network_without_shell_commands_is_said_to_do_nothing() -> None:
    (said,) = sentences(["Read", "Write"], ["example.org:443"])
    assert "without Bash" in said


def test_with_shell_commands_its_hosts_are_named() -> None:
    (said,) = sentences(["Bash"], ["example.org:443"])
    assert "example.org:443" in said and "without Bash" not in said


def test_without_a_network_nothing_is_said() -> None:
    assert sentences(["Read"], []) == []
