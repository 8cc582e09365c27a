"""The same proofs for an ordinary user. When the suite runs as root, it starts itself again as one that owns nothing.

`make test` repeats a run, its view, its proof and what it leaves, and all that root cannot show since nothing is closed
to it; `make test-long` everything.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import HANG

EACH_TIME = [
    "tests/sandbox/test_agent.py::test_a_run_from_start_to_finished",
    "tests/sandbox/test_agent.py::test_what_a_run_writes_stays_in_its_view",
    "tests/sandbox/test_canaries.py::test_a_sound_profile_passes",
    "tests/sandbox/test_claude.py::test_claudes_shell_is_nested[False]",
    "tests/sandbox/test_confinement.py::test_limits_hold",
    "tests/sandbox/test_views.py::test_what_cannot_be_read_is_skipped_and_said",
    "tests/sandbox/test_views.py::test_an_ordinary_users_process_may_open_no_more_than_before",
    "tests/sandbox/test_walk.py",
    "tests/sandbox/changes/test_changes.py::test_each_kind_of_change",
    "tests/sandbox/changes/test_conflicts.py::test_another_new_file_beside_is_no_conflict",
    "tests/sandbox/changes/test_conflicts.py::test_a_file_moved_and_edited_is_no_conflict",
    "tests/sandbox/changes/test_conflicts.py::test_a_folder_of_the_original_that_cannot_be_opened_is_said",
    "tests/sandbox/changes/test_hostile.py::test_closed_folders_and_files_are_opened",
    "tests/landing/test_landing.py::test_everything_is_put_in_place_and_taken_back",
    "tests/landing/test_disks.py::test_a_folder_without_permission",
    "tests/machine/test_granted_server.py::test_our_programs_refuse_to_run_there[an empty environment]",
]
LONG = [
    "tests/sandbox/test_confinement.py",
    "tests/sandbox/test_views.py",
    "tests/runs/test_removal.py",
]
NOBODY = 65534


def reachable() -> list[list[str]]:
    """Commands for root that make project and Python reachable under their own names, in a mount namespace.

    The suite may run where only root may look: a clone in a private folder, an interpreter in root's home. Each folder
    that shuts others out is covered by an open, empty one, and what is needed is bound into it again.
    """
    needed = [Path(__file__).resolve().parents[2], Path(sys.prefix), Path(os.path.realpath(sys.base_prefix))]
    covers = []
    for path in needed:
        shut = [parent for parent in reversed(path.parents) if parent.stat().st_mode & 0o005 != 0o005]
        covers += [shut[0]] if shut and shut[0] not in covers else []
    hidden = [path for path in needed if any(path.is_relative_to(cover) for cover in covers)]
    commands = [["mount", "--bind", str(path), f"{{folder}}/{number}"] for number, path in enumerate(hidden)]
    commands += [["mount", "-t", "tmpfs", "-o", "mode=755,size=16m", "tmpfs", str(cover)] for cover in covers]
    for number, path in enumerate(hidden):
        commands += [["mkdir", "-p", str(path)], ["mount", "--bind", f"{{folder}}/{number}", str(path)]]
    return commands


def run_as_ordinary_user(*tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests again as uid 65534, with everything that they need in its reach. As root only."""
    with tempfile.TemporaryDirectory(prefix="dispatch-nobody-", dir="/var/tmp") as folder:
        for name in ("0", "1", "2", "home"):
            Path(folder, name).mkdir(mode=0o755)
        Path(folder).chmod(0o755)
        os.chown(Path(folder, "home"), NOBODY, NOBODY)
        script = [shlex.join(command).replace("{folder}", folder) for command in reachable()]
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        suite = ["-B", "-m", "pytest", "-q", "-x", f"--basetemp={folder}/home/t", "-p", "no:hypothesispytest", *tests]
        script += [
            shlex.join(["cd", str(Path(__file__).resolve().parents[2])]),
            shlex.join(["exec", "/usr/bin/setpriv", *user, sys.executable, *suite]),
        ]
        return subprocess.run(
            ["/usr/bin/unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(script)],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": f"{folder}/home", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=HANG * 10,
            check=False,
        )


def again_as_ordinary_user(*tests: str) -> None:
    """Where this is root, run tests again as somebody who is not; fail unless each passes."""
    if os.geteuid() != 0:
        return  # then every other test here has just shown it
    done = run_as_ordinary_user(*tests)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout and " passed" in done.stdout, done.stdout


def test_a_run_and_what_it_leaves_for_an_ordinary_user() -> None:
    again_as_ordinary_user(*EACH_TIME)


@pytest.mark.long
def test_everything_holds_for_an_ordinary_user() -> None:
    again_as_ordinary_user(*LONG)
