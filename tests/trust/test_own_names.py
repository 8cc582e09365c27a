"""Which words and scripts name dispatch. The disguises of whole servers are in tests/machine/test_mcp_servers.py."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import peer
from peer.trust import own_names

ROOT = Path(peer.__file__).parent.parent
PROGRAMS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
MODULES = sorted({target.partition(":")[0] for target in PROGRAMS.values()})
ROOMS = sorted(path.parent.name for path in (ROOT / "peer").glob("*/__init__.py"))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("form", ["{}", "/usr/bin/{}", "C:\\tools\\{}.exe", "npx -y git+https://x.test/{}", "{}@1.2"])
def test_each_program_is_known_by_its_name(program: str, form: str) -> None:
    assert own_names.in_words(form.format(program))


@pytest.mark.parametrize("module", [*MODULES, "mcp_plugin", *(f"peer.{room}" for room in ROOMS)])
def test_each_program_is_known_by_its_module(module: str) -> None:
    for line in (f"python3 -m {module}", f"python3 -Im{module}", f"python -m {module}.more"):
        assert own_names.in_words(line), line
    for script in (f"import {module}\n", f"from {module} import main\n", f"runpy.run_module('{module}')\n"):
        assert own_names.in_script(script), script


@pytest.mark.parametrize(
    "text",
    [
        "sh -c 'exec dispatch-mcp --stdio'",
        "dispatch",
        'disp"atch-mcp"',
        "dis\\patch-mcp",
        "'dispatch-' + 'mcp'",
        "--server=dispatch-daemon",
        "mcp_plugin:main",
        "dispatch_courier-0.1.0-py3-none-any.whl",
        "x; dispatch send a b",
        "await dispatch_send(task)",
        "['dispatch', 'send']",
    ],
)
def test_words_that_name_dispatch(text: str) -> None:
    assert own_names.in_words(text)


@pytest.mark.parametrize(
    "text",
    ["", "dispatcher", "my-dispatch", "redispatch-mcp", "dispatch.js", "peer.clients", "cli.mainly", "plain words"],
)
def test_words_that_do_not(text: str) -> None:
    assert not own_names.in_words(text)


@pytest.mark.parametrize(
    ("script", "shell", "found"),
    [
        ("dispatch\n", False, False),
        ("dispatch\n", True, True),
        ('cd /; "$(pwd)/dispatch" --json\n', True, True),
        ("if true; then dispatch; fi\n", True, True),
        ("store.dispatch(action)\n", True, False),
        ("store.dispatch(action)\n", False, False),
        ("spawn('dispatch', ['inbox'])\n", False, True),
        ('subprocess.call(["dispatch", "--json"])\n', False, True),
        ("TOOLS = ['dispatch_act']\n", False, True),
        ('run("dis" + "patch-mcp")\n', False, True),
        ("exec dis\\patch-mcp\n", False, True),
        ("echo nothing of it\n", True, False),
    ],
)
def test_scripts(script: str, shell: bool, found: bool) -> None:
    assert own_names.in_script(script, shell=shell) is found


def test_a_script_is_read_as_no_shell_unless_it_is_one() -> None:
    assert not own_names.in_script("dispatch\n")


@pytest.mark.parametrize(
    ("value", "found"),
    [("dispatch", False), (" Dispatch ", False), ("dispatch-mcp", True), ("dispatch send", True), ("other", False)],
)
def test_the_bare_word_in_a_variable_is_no_sign(value: str, found: bool) -> None:
    assert own_names.in_value(value) is found


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A-mcp", "dispatch-mcp"),
        ("${A}-mcp", "dispatch-mcp"),
        ("${A:-other}-mcp", "dispatch-mcp"),
        ("$B ${B} $", "$B ${B} $"),
        ("$A$A", "dispatchdispatch"),
    ],
)
def test_known_variables_are_filled_in(text: str, filled: str) -> None:
    assert own_names.filled(text, {"A": "dispatch"}) == filled
