"""The example of docs/architecture.md: its diff is applied to a copy of the tree, and the field is everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import HANG

ROOT = Path(__file__).parents[2]
TEXT = "before the market opens"


def test_the_diff_of_the_docs_adds_a_field_everywhere(tmp_path: Path) -> None:
    """Seen to fail with any one of the places naming its fields by hand again."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.S | re.M)
    for package in ("peer", "sandbox", "cli", "mcp_plugin", "tests/protocol", "tests/docs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/__init__.py", tmp_path / "tests")
    apply = ["git", "apply", "--whitespace=error", "-"]
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PYTHONPATH": str(tmp_path)}
    subprocess.run(apply, cwd=tmp_path, input=diff, text=True, check=True, timeout=HANG, env=environment)
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.urgent"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["statement"] and found["cddl"]
    assert found["refused"] == "the urgency is 41 characters; the limit is 40: 1 too many"
    assert found["view"] == found["request"]["urgency"] == found["read"]["untrusted_urgency"] == TEXT
    assert f"How soon it matters:\n<urgency>\n{TEXT}\n</urgency>" in found["brief"]
    assert re.search(r"--urgency TEXT +How soon it matters, in words\.", found["help"])
    assert re.search(rf"^urgency +“{TEXT}”$", found["shown"], re.M)
    assert found["tool"] == {"type": "string", "maxLength": 40, "description": "how soon it matters, in words"}
    assert {"name": "urgency", "heading": "How soon it matters", "limit": 40, "long": False} in found["page"]
