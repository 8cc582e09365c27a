"""The same proofs for an ordinary user. When the suite runs as root, it starts itself again as one that
owns nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = [
    "tests/sandbox/test_confinement.py",
    "tests/sandbox/test_canaries.py::test_a_sound_profile_passes",
    "tests/sandbox/test_claude.py::test_claudes_shell_is_nested[False]",
]
NOBODY = 65534


def interpreter() -> tuple[str, str]:
    """A Python that user may execute, and the PYTHONPATH it needs to find what this one has."""
    real = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in real.parents):
        return sys.executable, ""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/bin:/usr/local/bin")
    assert found, f"no {version} that every user may execute; make the virtual environment from the system's"
    return found, os.pathsep.join(path for path in sys.path if "site-packages" in path)


def test_everything_holds_for_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        return  # then every other test here has just shown it
    program, path = interpreter()
    with tempfile.TemporaryDirectory(prefix="dispatch-nobody-", dir="/var/tmp") as folder:
        os.chown(folder, NOBODY, NOBODY)
        user = [
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]
        words = [
            "-B",
            "-m",
            "pytest",
            "-q",
            "-x",
            f"--basetemp={folder}/t",
            "-p",
            "no:hypothesispytest",
            *TESTS,
        ]
        done = subprocess.run(
            ["/usr/bin/setpriv", *user, program, *words],
            cwd=Path(__file__).parents[2],
            env={"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": path, "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout and " passed" in done.stdout, done.stdout
