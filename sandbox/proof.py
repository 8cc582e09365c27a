"""`dp-agent --prove`: build the profile around an empty run, run its canaries and say what they met. Runs no task."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import trio

from sandbox.confinement import Profile, prove
from sandbox.errors import SandboxError


def main() -> None:
    """Print {tier, mechanisms, canaries: [{name, ok, detail}], error?: {code, message, fix}}; exit 1 with an error."""
    document = trio.run(_prove)
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.exit(1 if "error" in document else 0)


async def _prove() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dp-prove-") as folder:
        workspace, home = Path(folder) / "workspace", Path(folder) / "home"
        workspace.mkdir(mode=0o700)
        home.mkdir(mode=0o700)
        try:
            report = await prove(Profile(workspace=workspace, home=home))
        except SandboxError as error:
            return {
                "tier": None,
                "canaries": [],
                "error": {"code": error.code, "message": error.message, "fix": error.fix},
            }
    return {
        "tier": report.tier,
        "mechanisms": list(report.mechanisms),
        "canaries": [
            {"name": canary.name, "ok": canary.outcome != "open", "detail": canary.detail or canary.outcome}
            for canary in report.canaries
        ],
    }
