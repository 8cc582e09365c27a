"""Nothing tells anybody to install dispatch by a bare name: on an index, whoever took that name would answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.distribution import NAME

ROOT = Path(__file__).parents[2]
SHIPPED = ("README.md", "Makefile", ".ci", "docs", "peer", "rendezvous", "sandbox", "cli", "mcp_plugin")

BARE = re.compile(
    r"""(?:pip3?\s+install | pipx\s+(?:install|run) | uv\s+(?:tool\s+(?:install|run|upgrade)|pip\s+install|add) | uvx
          | npm\s+(?:install|i) | npx | brew\s+install | apt(?:-get)?\s+install)
        (?:\s+-\S+)* \s+ ['"]? (?:dispatch|dp-agent) [\w.-]*+ (?<!\.whl) (?<!\.gz) (?:\[[\w,]*\])?+
        (?! / | \s*@\s )""",
    re.VERBOSE,
)
MAY_HOLD_IT = {
    "sandbox/distribution.py",  # the one place that makes commands of it, each with what is to be installed
    "sandbox/runtimes/scripted/runtime.py",  # the version that is installed
    "rendezvous/program.py",  # the same
    "peer/machine/keychains.py",  # the name of an entry in the keychain
    "cli/plugin.py",  # the plugin's marketplace, a folder of this installation
    "mcp_plugin/plugin/.claude-plugin/marketplace.json",
    "docs/plugin.md",
    "docs/install.md",
    "README.md",
}
"""Every file that holds the distribution's name at all."""


def texts() -> Iterator[tuple[str, str]]:
    for name in SHIPPED:
        for path in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".png", ".pyc"):
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def test_no_text_tells_to_install_a_name_from_an_index() -> None:
    """Seen to fail with the plugin's texts of before, which said `pip install` and the name."""
    found = {path: match[0] for path, text in texts() if (match := BARE.search(text))}
    assert found == {}


def test_the_name_is_where_it_has_a_reason_to_be() -> None:
    """So a new text that names it is looked at, however it words what to do with it."""
    assert {path for path, text in texts() if NAME in text} == MAY_HOLD_IT


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("pip install 'dispatch-courier[claude]'", True),
        ("pip install --force-reinstall dispatch-courier", True),
        ("uv tool install dispatch_courier", True),
        ("pipx install dispatch", True),
        ("uvx dispatch-courier", True),
        ("pip install --editable './dispatch[claude]'", False),
        ("pip install dispatch/", False),
        ("pipx install dispatch_courier-0.1-py3-none-any.whl", False),
        ("pip install 'dispatch-courier[claude] @ file:///a/b.whl'", False),
        ("dispatch plugin install", False),
    ],
)
def test_what_counts_as_one(text: str, bare: bool) -> None:
    assert (BARE.search(text) is not None) == bare
