"""A real PostgreSQL server for tests: Debian's, in a folder of its own, on a socket that only this user reaches."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import HANG

DATABASE = "dispatch"
PORT = 5432


def programs() -> Path:
    """Return the folder with initdb and postgres: the newest of Debian's, or that of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("postgres")
    if found is None:
        pytest.fail("there is no PostgreSQL: as root, apt-get install postgresql")
    return Path(found).parent


class Server:
    """One server; many databases."""

    def __init__(self, folder: Path, *, copy_of: Server | None = None, **settings: str) -> None:
        """Make and start it. `folder`: of a short path, since a socket's has 107 bytes. `copy_of`: the server that it
        is a standby of, by streaming replication, until `promote`."""
        self._bin = programs()
        self.folder = folder
        self._data = folder / "data"
        folder.chmod(0o711)
        # A server refuses to run as root.
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = "nobody"
            shutil.chown(folder, pwd.getpwnam("nobody").pw_uid)
        if copy_of is None:
            self._do("initdb", "--pgdata", str(self._data), "--username", "dispatch", "--auth", "trust", "--no-sync")
        else:
            source = f"host={copy_of.folder} port={PORT} user=dispatch"
            copy = ("--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
            self._do("pg_basebackup", "--pgdata", str(self._data), "--dbname", source, *copy)
        self.start(**settings)

    def _do(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            user=self._user,
            cwd="/",
            check=True,
            capture_output=True,
            timeout=HANG,
            env={"PATH": f"{self._bin}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        )

    def start(self, **settings: str) -> None:
        """Start it, with durability off: what is killed is not the machine."""
        usual = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "max_connections": "60",
            "autovacuum": "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in (usual | settings).items())
        log = self.folder / "log"
        self._do("pg_ctl", "start", "--pgdata", str(self._data), "--wait", "--log", str(log), "--options", options)

    def stop(self, how: str = "fast") -> None:
        """Stop it: `fast`, or `immediate`, which is a crash."""
        self._do("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", how)

    def promote(self) -> None:
        """Let a standby take writes."""
        self._do("pg_ctl", "promote", "--pgdata", str(self._data), "--wait")

    def end(self) -> None:
        """Stop it, whatever it does."""
        with suppress(subprocess.CalledProcessError):
            self.stop("immediate")

    @property
    def pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split("\n")[0])

    def signal(self, number: signal.Signals) -> None:
        """Signal every process of it."""
        postmaster = psutil.Process(self.pid)
        for process in (postmaster, *postmaster.children()):
            process.send_signal(number)

    def url(self, database: str = DATABASE, **more: str) -> str:
        """Return the connection string of a database."""
        given = "".join(f"&{name}={value}" for name, value in more.items())
        return f"postgresql:///{database}?host={self.folder}&port={PORT}&user=dispatch{given}"

    def database(self) -> str:
        """Make an empty database; return its connection string."""
        name = f"d{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        return self.url(name)
