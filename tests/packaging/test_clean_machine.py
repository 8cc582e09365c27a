"""Installing on a clean machine, each way of docs/install.md; what uninstalling leaves; and no compiler.

`test_backend.py` has the same refusal without a machine. Long: each way downloads everything and compiles fastecdsa.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging import clean
from tests.packaging.test_distributions import ROOT

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(3 * clean.SECONDS)]

USED = """
files() {
    find . /tmp ! -type d | sort |
        grep -vE '^[.]/([.]cache|[.]local/share/uv|[.]local/share/pipx|[.]local/state/pipx)/|^/tmp/uv-'
}
used() {
    dispatch config set notifications off
    dispatch --version
    for each in dispatch-daemon dispatch-rendezvous dispatch-relay; do $each --help >/dev/null; done
    dispatch demo --yes
}
"""
PIP = "python3 -m venv dispatch && dispatch/bin/pip install -q '/given/{file}[claude]'\nPATH=$PWD/dispatch/bin:$PATH"
TOOLS = "python3 -m venv tools && tools/bin/pip install -q --require-hashes -r /given/tools.txt\n"
PIPX = TOOLS + "tools/bin/pipx install 'dispatch-courier[claude] @ file:///given/{file}'"
UV = TOOLS + "tools/bin/uv tool install 'dispatch-courier[claude] @ file:///given/{file}'"
INSTALLERS = {
    "pip": (PIP, "rm -r dispatch"),
    "pipx": (PIPX, "tools/bin/pipx uninstall dispatch-courier"),
    "uv": (UV, "tools/bin/uv tool uninstall dispatch-courier"),
}
"""How each installs a file, and uninstalls it again, as docs/install.md has it."""


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean.base(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a person has got: a wheel and a source archive."""
    return clean.distributions(tmp_path_factory.mktemp("given"))


def documented(beginning: str) -> str:
    """Return the command lines of docs/install.md that begin like this."""
    lines = re.findall(rf"^    ((?:{beginning}) .*)$", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    assert lines, beginning
    return "\n".join(lines)


@pytest.mark.parametrize("file", ["wheel", "source archive"])
@pytest.mark.parametrize("installer", INSTALLERS)
def test_each_way_gives_programs_that_work_and_leaves_nothing(
    base: Path, given: Path, tmp_path: Path, installer: str, file: str
) -> None:
    """The demo with its broker, daemons, sandbox and the claude program; manual pages and completion as in
    docs/install.md. Uninstalled, home and /tmp are as they were, but for caches and what uv and pipx note for
    themselves."""
    install, uninstall = INSTALLERS[installer]
    name = (given / "wheel").read_text() if file == "wheel" else "source.tar.gz"
    script = f"""{USED}
touch before after; files > before
{install.format(file=name)}
used
{documented("dispatch man --to|mkdir -p|dispatch completion")}
test -s ~/.local/share/man/man1/dispatch-send.1 -a -s ~/.local/share/bash-completion/completions/dispatch
{documented("rm -f")}
{uninstall}
rm -rf tools ~/.dispatch
files > after
diff before after && echo nothing left
"""
    done = clean.run(script, base=base, given=given, folder=tmp_path, packages=clean.COMPILER)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "done, in " in done.stdout and done.stdout.endswith("nothing left\n"), done.stdout[-3000:]


@pytest.mark.parametrize("way", ["pip", "uv"])
def test_without_a_compiler_one_line_names_the_packages(base: Path, given: Path, tmp_path: Path, way: str) -> None:
    install = {
        "pip": "python3 -m venv dispatch && dispatch/bin/pip install /given/source.tar.gz",
        "uv": TOOLS + "tools/bin/uv tool install 'dispatch-courier @ file:///given/source.tar.gz'",
    }[way]
    done = clean.run(install, base=base, given=given, folder=tmp_path)
    assert done.returncode != 0
    named = [line for line in (done.stdout + done.stderr).splitlines() if "please install first" in line]
    assert len(named) == 1 and f"sudo apt-get install {' '.join(clean.COMPILER)} " in named[0], done.stderr


def test_the_line_names_what_is_needed_and_all_of_it(base: Path, given: Path, tmp_path: Path) -> None:
    """A wheel of ours is not built, so it is the next package that fails; with what the line names it does not."""
    wheel = (given / "wheel").read_text()
    install = f"python3 -m venv dispatch && dispatch/bin/pip install -q /given/{wheel}"
    done = clean.run(install, base=base, given=given, folder=tmp_path)
    assert done.returncode != 0 and "fastecdsa" in done.stderr, done.stderr
