"""What a run left for node, npm, cargo and Mercurial to execute is not executed in the person's folder before an apply.

Git is in test_scenarios.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sandbox.confinement import Profile
from sandbox.confinement.bubblewrap import python
from sandbox.confinement.profile import View
from tests.conftest import HANG
from tests.sandbox.conftest import NO_OVERLAY, Person, person, run, seen, viewed
from tests.sandbox.trees import tree

__all__ = ["person"]


@dataclass(frozen=True)
class Kind:
    """A kind of project.

    `project`: the person's files. `planted`: the run's, all of them executable; ``FOLDER`` in them is the project, and
    ``MARKS/NAME`` a file that is there once the canary NAME was obeyed. `uses`: what the person does in the project.
    """

    program: str
    project: dict[str, str]
    planted: dict[str, str]
    uses: tuple[str, ...]
    init: str = "true"

    @property
    def canaries(self) -> set[str]:
        return {name for text in self.planted.values() for name in re.findall(r"MARKS/([\w-]+)", text)}


BUILD = "node -e \"require('dep')\""
KINDS = [
    Kind(
        "npm",
        {"package.json": json.dumps({"scripts": {"build": BUILD}}), "node_modules/dep/index.js": ""},
        {
            "package.json": json.dumps(
                {"scripts": {"prebuild": "touch MARKS/before", "build": BUILD, "x": "touch MARKS/script"}}
            ),
            ".npmrc": "script-shell=FOLDER/shell\nnode-options=--require=FOLDER/options.cjs\n",
            "shell": '#!/bin/sh\ntouch MARKS/shell\nexec /bin/sh "$@"\n',
            "options.cjs": "require('fs').writeFileSync('MARKS/options', '')\n",
            "node_modules/dep/index.js": "require('fs').writeFileSync('MARKS/module', '')\n",
            "node_modules/.bin/node": '#!/bin/sh\ntouch MARKS/bin\nPATH=${PATH##*node_modules/.bin:}\nexec node "$@"\n',
        },
        (BUILD, "npm run build", "npm run --if-present x"),
    ),
    Kind(
        "cargo",
        {
            "Cargo.toml": '[package]\nname = "p"\nversion = "0.1.0"\nedition = "2021"\n',
            "src/main.rs": "fn main() {}\n",
        },
        {
            ".cargo/config.toml": "[build]\nrustc-wrapper = 'FOLDER/wrapper'\n"
            "[target.'cfg(all())']\nrunner = 'FOLDER/runner'\n",
            "wrapper": '#!/bin/sh\ntouch MARKS/wrapper\nexec "$@"\n',
            "runner": '#!/bin/sh\ntouch MARKS/runner\nexec "$@"\n',
            "build.rs": 'fn main() { std::fs::write("MARKS/build", "").unwrap() }\n',
        },
        ("cargo metadata --offline --format-version 1", "cargo build --offline", "cargo run --offline"),
    ),
    Kind(
        "hg",
        {"notes": "hello\n"},
        {
            ".hg/hgrc": "[hooks]\npre-identify = touch MARKS/hook\n[alias]\nstatus = !touch MARKS/alias\n"
            "[extensions]\nmine = FOLDER/mine.py\n",
            "mine.py": "open('MARKS/extension', 'w').close()\n",
        },
        ("hg status", "hg identify"),
        init="hg init",
    ),
]

PLANT = """
import json, os, sys
os.chdir(sys.argv[1])
for name, text in json.loads(sys.argv[2]).items():
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "w") as file:
        file.write(text)
    os.chmod(name, 0o755)
"""


class Host:
    """The person at work, with nothing of this machine's own settings."""

    def __init__(self, base: Path, kind: Kind) -> None:
        self._home, self._marks = base / "host", base / "marks"
        self._home.mkdir()
        self._marks.mkdir()
        self._path = f"{_programs(kind.program)}:/usr/bin:/bin"

    def do(self, command: str, folder: Path) -> None:
        env = {"PATH": self._path, "HOME": str(self._home), "HGRCPATH": "", "npm_config_update_notifier": "false"}
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=HANG
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def obeyed(self) -> set[str]:
        return {mark.name for mark in self._marks.iterdir()}

    def filled_in(self, kind: Kind, folder: Path) -> dict[str, str]:
        """What the run writes."""
        return {
            name: text.replace("FOLDER", str(folder)).replace("MARKS", str(self._marks))
            for name, text in kind.planted.items()
        }


def _programs(program: str) -> str:
    """The folder of the program; skips the test where there is none."""
    found = shutil.which(program, path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    if found is None or (program == "cargo" and shutil.which("rustc") is None):
        pytest.skip(f"this machine has no {program}")
    folder = Path(found).parent
    if program == "cargo":
        # It may be rustup's, which wants the home folder that it was installed in; the toolchain's own does without.
        asked = ["rustc", "--print", "sysroot"]
        folder = Path(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip(), "bin")
        if not (folder / "cargo").exists():
            pytest.skip("the cargo of this machine has no toolchain")
    return str(folder)


@pytest.fixture
def host(person: Person, kind: Kind) -> Host:
    """The person, who has made such a project."""
    made = Host(person.base, kind)
    for name, text in kind.project.items():
        (person.project / name).parent.mkdir(parents=True, exist_ok=True)
        (person.project / name).write_text(text)
    made.do(kind.init, person.project)
    return made


async def plant(profile: Profile, files: dict[str, str]) -> None:
    done = await run(profile, [python(), "-ISBc", PLANT, str(profile.roots[0].inside), json.dumps(files)])
    assert done.code == 0, done
    assert {name: (seen(profile) / name).read_text() for name in files} == files, "the run did write them"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.program)
@pytest.mark.parametrize("no_overlay", [pytest.param(NO_OVERLAY, id="overlay"), pytest.param("a test", id="copy")])
async def test_nothing_that_a_run_left_is_obeyed(person: Person, host: Host, kind: Kind, no_overlay: str) -> None:
    before = tree(person.project)
    with viewed(person.plain, no_overlay=no_overlay) as profile:
        await plant(profile, host.filled_in(kind, person.project))
        assert tree(person.project) == before
        for use in kind.uses:
            host.do(use, person.project)
    for use in kind.uses:
        host.do(use, person.project)
    assert host.obeyed() == set()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.program)
async def test_without_a_view_all_of_it_would_be(person: Person, host: Host, kind: Kind) -> None:
    """The same run writes the folder itself, and the person does the same: every canary is worth something."""
    (root, *others) = person.plain.roots
    bare = replace(root, view=View(root.path, root.path))
    await plant(replace(person.plain, roots=(bare, *others)), host.filled_in(kind, person.project))
    assert host.obeyed() == set()
    for use in kind.uses:
        host.do(use, person.project)
    assert host.obeyed() == kind.canaries
