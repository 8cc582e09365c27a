"""The demo's processes: a broker, two daemons, a scripted model, each a real program in a folder of its own.

All of them end with the demo, however it ends.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cli.app import App
from cli.demo import material
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Unavailable

START_SECONDS = 30.0
STOP_SECONDS = 3.0
KEY = "demo-key-that-opens-nothing"

# What a person's shell may hold and a demo must not use: their own sign-in, their own agent.
_DROPPED = re.compile(r"(?:DISPATCH|ANTHROPIC|CLAUDE)_?.*")


class Stage:
    """Where the demo plays. `live` uses this person's model credentials instead of the scripted model."""

    def __init__(self, folder: Path, *, live: Mapping[str, str] | None) -> None:
        self.folder = folder
        self.broker = ""
        self.live = live
        self._started: list[subprocess.Popen[str]] = []

    def home_of(self, name: str) -> StateFolder:
        """Return the state folder of alice or bob."""
        return StateFolder(self.folder / name)

    def app_of(self, name: str) -> App:
        """Return what the commands of alice or bob work with."""
        app = App()
        app.use_folder(self.home_of(name))
        return app

    @property
    def project(self) -> Path:
        """Bob's project."""
        return self.folder / "code" / material.PROJECT

    def write_material(self) -> Path:
        """Write Bob's project and Alice's attachment; return the attachment."""
        self.project.mkdir(parents=True)
        (self.project / "till.py").write_text(material.BUGGY, "utf-8")
        (self.project / "pyproject.toml").write_text('[project]\nname = "till"\nversion = "1"\n', "utf-8")
        attachment = self.folder / material.ATTACHMENT
        attachment.write_text(material.REPORT, "utf-8")
        return attachment

    def start_broker(self) -> None:
        """Start a development broker on a free port."""
        process = self._start(
            ["-m", "rendezvous.main", "serve", "--dev", "--port", "0", "--data", str(self.folder / "broker")]
        )
        self.broker = self._heard(process, r"listening on (\S+)")

    def start_model(self) -> str:
        """Start the scripted model; return its address."""
        script = self.folder / "model.json"
        script.write_text(material.script(), "utf-8")
        process = self._start(["-m", "sandbox.model_api.anthropic.scripted_model", "--script", str(script)])
        return self._heard(process, r"(http://127\.0\.0\.1:\d+)")

    def sign_in(self, name: str, email: str) -> None:
        """Sign in as a person would: `dispatch login`, and the code typed into the broker's page."""
        process = self._start(
            ["-m", "cli.main", "login", "--broker", self.broker, "--email", email, "--no-browser", "--label", name],
            home=name,
        )
        code = self._heard(process, r"[?&]code=([A-Z0-9-]+)")
        form = urllib.parse.urlencode({"user_code": code}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.broker}/login", form, timeout=START_SECONDS):
                pass
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"the broker's sign-in page failed: {error}") from error
        if process.wait(START_SECONDS) != 0:
            raise Unavailable(f"signing in as {email} failed", fix="run `dispatch doctor`")

    def configure(self, name: str, model_url: str) -> None:
        """Give Bob's machine its model and its project root."""
        import msgspec

        from peer.machine import settings

        folder = self.home_of(name)
        saved = settings.load(folder)
        model = (
            settings.ModelSettings(api_key=KEY, base_url=model_url)
            if self.live is None
            else settings.ModelSettings(**self.live)
        )
        settings.save(folder, msgspec.structs.replace(saved, model=model, roots=(str(self.project.parent),)))

    def start_daemon(self, name: str) -> None:
        """Start somebody's daemon and wait until it serves."""
        process = self._start(
            ["-m", "peer.programs.daemon", "--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0"], home=name
        )
        self._heard(process, r"(on 127\.0\.0\.1:\d+)")

    def stop(self) -> None:
        """End every process."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for process in self._started:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _start(self, arguments: Sequence[str], *, home: str | None = None) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
        environment["PYTHONUNBUFFERED"] = "1"
        # No session bus: a demo's root keys do not belong in this person's keychain.
        environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
        if home is not None:
            environment["DISPATCH_HOME"] = str(self.home_of(home).path)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _heard(self, process: subprocess.Popen[str], pattern: str) -> str:
        """Return what a process says that fits; raise Unavailable with its words if it ends without."""
        assert process.stdout is not None
        heard: list[str] = []
        for line in process.stdout:
            heard.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
            if len(heard) > 200:
                break
        process.wait()
        words = " ".join("".join(heard[-5:]).split())
        raise Unavailable(f"a program of the demo ended at once: {words}", fix="run `dispatch doctor`")


@contextmanager
def stage(*, live: Mapping[str, str] | None) -> Iterator[Stage]:
    """Give a stage in a temporary folder; its processes and the folder are gone afterwards."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dispatch-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        theatre = Stage(folder, live=live)
        stack.callback(theatre.stop)
        yield theatre
