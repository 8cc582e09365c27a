"""The menu: five lines in their order, and no line that grants what it does not say."""

import pytest

from peer.protocol.errors import Invalid
from peer.trust import menu
from peer.trust.grants import McpServer


def test_the_five_lines() -> None:
    items = menu.menu(["mail", "github", McpServer("x", ("dispatch-mcp",))])
    assert [item.number for item in items] == [1, 2, 3, 4, 5]
    assert [item.kind for item in items] == ["grant", "grant", "grant", "custom", "decline"]
    assert [item.tools for item in items] == [
        ("Read", "Glob", "Grep"),
        ("Read", "Glob", "Grep", "Write", "Edit"),
        ("Read", "Glob", "Grep", "Write", "Edit", "Bash"),
        (),
        (),
    ]
    assert [item.mcp_servers for item in items] == [(), (), ("github", "mail"), (), ()]
    assert "github, mail" in items[2].title and "full shell" in items[2].explains
    assert "none is installed" in menu.menu([])[2].title
    assert "ann@example.org" in menu.heading("ann@example.org")


def test_a_choice_is_a_number_of_the_menu() -> None:
    assert menu.choose(" 1\n", []).tools == ("Read", "Glob", "Grep")
    assert menu.choose(5, []).kind == "decline"
    for wrong in ("", "0", "6", "1.", "all", "１", "1 2"):
        with pytest.raises(Invalid) as refused:
            menu.choose(wrong, [])
        assert "1 to 5" in refused.value.fix
