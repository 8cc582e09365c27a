"""The demo's processes: a broker, two daemons, a scripted model, each a real program with a folder of its own.

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
from cli.demo import scenario
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Unavailable

START_SECONDS = 30.0
STOP_SECONDS = 3.0
KEY = "demo-key-that-opens-nothing"

# Variables of the person's shell that the demo must not use: their sign-in, their agent's settings.
_DROPPED = re.compile(r"(?:DISPATCH|ANTHROPIC|CLAUDE)_?.*")


class DemoProcesses:
    """The processes and their files. `live`: this person's model settings, in place of the scripted model."""

    def __init__(self, folder: Path, *, live: Mapping[str, str] | None) -> None:
        self.folder = folder
        self.broker = ""
        self.live = live
        self._started: list[subprocess.Popen[str]] = []

    def home_of(self, name: str) -> StateFolder:
        """Return the state folder of alice or bob."""
        return StateFolder(self.folder / name)

    def app_of(self, name: str) -> App:
        """Return the App of alice or bob, as their commands have it."""
        app = App()
        app.use_folder(self.home_of(name))
        return app

    @property
    def project(self) -> Path:
        """Bob's project."""
        return self.folder / "code" / scenario.PROJECT

    def write_files(self) -> Path:
        """Write Bob's project and Alice's attachment; return the attachment."""
        self.project.mkdir(parents=True)
        (self.project / "till.py").write_text(scenario.BUGGY, "utf-8")
        (self.project / "pyproject.toml").write_text('[project]\nname = "till"\nversion = "1"\n', "utf-8")
        attachment = self.folder / scenario.ATTACHMENT
        attachment.write_text(scenario.REPORT, "utf-8")
        return attachment

    def start_broker(self) -> None:
        """Start a development broker on a free port."""
        process = self._start(
            ["-m", "rendezvous.main", "serve", "--dev", "--port", "0", "--data", str(self.folder / "broker")]
        )
        self.broker = self._wait_for(process, r"listening on (\S+)")

    def start_model(self) -> str:
        """Start the scripted model; return its address."""
        script = self.folder / "model.json"
        script.write_text(scenario.script(str(self.project.resolve())), "utf-8")
        process = self._start(["-m", "sandbox.model_api.anthropic.scripted_model", "--script", str(script)])
        return self._wait_for(process, r"(http://127\.0\.0\.1:\d+)")

    def sign_in(self, name: str, email: str) -> None:
        """Sign in as people do: `dispatch login`, then the code into the form of the broker's page."""
        process = self._start(
            ["-m", "cli.main", "login", "--broker", self.broker, "--email", email, "--no-browser", "--label", name],
            home=name,
        )
        code = self._wait_for(process, r"[?&]code=([A-Z0-9-]+)")
        form = urllib.parse.urlencode({"user_code": code}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.broker}/login", form, timeout=START_SECONDS):
                pass
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"the broker's sign-in page failed: {error}", fix="run `dispatch demo` again") from error
        if process.wait(START_SECONDS) != 0:
            raise Unavailable(f"signing in as {email} failed", fix="run `dispatch doctor`")

    def configure(self, name: str, model_url: str) -> None:
        """Configure the model and the folder of projects on Bob's machine."""
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
        """Start the daemon of alice or bob and wait until it serves."""
        process = self._start(
            ["-m", "peer.programs.daemon", "--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0"], home=name
        )
        self._wait_for(process, r"(on 127\.0\.0\.1:\d+)")

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
        # Keeps the demo's root keys out of this person's keychain.
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

    def _wait_for(self, process: subprocess.Popen[str], pattern: str) -> str:
        """Return the pattern's group in a process's output. Raises Unavailable with the output if it ends before."""
        assert process.stdout is not None
        output: list[str] = []
        for line in process.stdout:
            output.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
            if len(output) > 200:
                break
        process.wait()
        last = " ".join("".join(output[-5:]).split())
        raise Unavailable(f"a program of the demo stopped at once: {last}", fix="run `dispatch doctor`")


@contextmanager
def running(*, live: Mapping[str, str] | None) -> Iterator[DemoProcesses]:
    """Yield DemoProcesses in a temporary folder; at the end its processes are stopped and the folder deleted."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dispatch-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        processes = DemoProcesses(folder, live=live)
        stack.callback(processes.stop)
        yield processes
