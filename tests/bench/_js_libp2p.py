"""js-libp2p as it comes, beside our stream: two processes of Node.js, TCP, Noise and Yamux, nothing of ours.

Its packages are installed into a folder that is thrown away, Node.js 22 with them, which they need. MADE_BEFORE names a
folder that has them already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench._table import Missing

PACKAGES = ("libp2p@3.3.11", "@libp2p/tcp@11.0.28", "@libp2p/noise@17.0.3", "@libp2p/yamux@8.0.3", "node@22")
MADE_BEFORE = "DISPATCH_BENCH_JS_LIBP2P"
PROGRAM = Path(__file__).with_name("_js_libp2p.mjs")


class JsLibp2p:
    """The process that takes bytes from another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def copy(self, size: int) -> float:
        """Have `size` bytes sent on a stream, into nothing; return the seconds that took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def js_libp2p(folder: Path) -> Iterator[JsLibp2p]:
    """Run both processes, installed below `folder` unless MADE_BEFORE says where they are. Raises Missing."""
    place = Path(made) if (made := os.environ.get(MADE_BEFORE)) else _installed(folder / "js")
    node = str(place / "node_modules" / "node" / "bin" / "node")
    # A module finds its packages beside itself alone.
    program = str(shutil.copy(PROGRAM, place))
    with subprocess.Popen([node, program, "give"], stdout=subprocess.PIPE, text=True) as giver:
        try:
            assert giver.stdout is not None
            command = [node, program, "take", giver.stdout.readline().strip()]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as taker:
                try:
                    yield JsLibp2p(taker)
                finally:
                    taker.kill()
        finally:
            giver.kill()


def _installed(place: Path) -> Path:
    place.mkdir()
    (place / "package.json").write_text('{"private": true, "type": "module"}\n')
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("js-libp2p needs npm, which is not installed")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", *PACKAGES]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode or not (place / "node_modules" / "node" / "bin" / "node").exists():
        raise Missing(f"js-libp2p cannot be installed here ({done.stderr.strip().rpartition(chr(10))[2]})")
    return place
