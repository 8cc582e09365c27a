"""`whoami` and `doctor`: who I am, and whether every part works. The daemon makes the checks that only it can make."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from cli import machine_repair
from cli.agent_program import asked
from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.home_folder import homes
from cli.output import string
from cli.values import how_connected
from peer.client.blocking import DaemonUnreachable, Document
from peer.machine import sandbox_proof
from peer.machine.installation import again
from peer.protocol.errors import DispatchError, Unauthorized, Unavailable

if TYPE_CHECKING:
    from peer.machine.settings import Settings

BROKER_SECONDS = 10.0
CLOCK_SECONDS = 120.0
"""How far this machine's clock may be off the broker's. Signed requests are refused at five minutes."""
PROVEN = ("sandbox", "gate")
"""Checks that run a proof, which takes up to a minute."""
PATHS_SHOWN = 8
"""Connected devices that `doctor` names; `contacts` shows all."""
LEAST_FREE_BYTES = 1 << 30
"""Below this much room a run is ended, and soon nothing can be stored."""


@click.command(cls=DispatchCommand, example="dispatch whoami\ndispatch whoami --json")
@pass_app
def whoami(app: App) -> None:
    """Show who you are, this device's fingerprint, the broker, the daemon, the agent runtime and the sandbox."""
    document = app.read(lambda source: source.whoami())
    if app.out.json:
        app.out.document(document)
        return
    daemon: Document = document.get("daemon") or {}
    runtime: Document = document.get("runtime") or {}
    sandbox: Document = document.get("sandbox") or {}
    problems = [each["error"] for each in document.get("brokers") or [] if each.get("error")]
    running = (
        f"running, 127.0.0.1:{daemon.get('port')}, pid {daemon.get('pid')}" if daemon.get("running") else "not running"
    )
    known: dict[str, str | list[str]] = {
        "user": string(document.get("user_id")),
        "device": f"{string(document.get('device_name'))} ({string(document.get('device_id'))})",
        "fingerprint": string(document.get("fingerprint")),
        "root key": string(document.get("root_stored")),
        "broker": [_broker_line(each) for each in document.get("brokers") or []] or "-",
        "daemon": running,
        "addresses": [str(each) for each in daemon.get("addresses") or ["-"]],
        "relays": [
            f"{each['origin']}{'' if each['connected'] else ' (not connected)'}" for each in daemon.get("relays") or []
        ]
        or "-",
        "runtime": f"{string(runtime.get('name'))} {string(runtime.get('version'))}",
        "agent login": string(runtime.get("login")),
        "sandbox": f"{string(sandbox.get('tier'))}{_because(sandbox)}",
        "gate": string(sandbox.get("gate")),
    }
    app.out.pairs(known)
    for part in (*(problem.get("fix") for problem in problems), runtime.get("login_fix"), sandbox.get("fix")):
        if part:
            app.out.note(f"fix: {part}")


def _broker_line(row: Document) -> str:
    line = string(row.get("url"))
    if not row.get("signed_in"):
        login = "dispatch login" if row.get("first") else f"dispatch login --broker {line}"
        line += f" (not signed in: `{login}`)"
    if problem := row.get("error"):
        line += f"; {string(problem.get('message'))}"
    return line


@click.command(cls=DispatchCommand, example="dispatch doctor\ndispatch doctor --fix")
@click.option(
    "--fix",
    is_flag=True,
    help="Repair permissions. On a terminal, also repair what keeps the sandbox from working; asks first.",
)
@pass_app
def doctor(app: App, fix: bool) -> int:
    """Check every part, live: permissions, settings, sign-in, broker, daemon, reachability, agent, sandbox.

    Each result is shown as soon as it is known, quick checks first, with the fix for what is broken. Exits with 1 if
    anything is broken.
    """
    out = app.out

    def begins(names: str) -> None:
        out.working(f"checking {names} …")

    def ended(check: Document) -> None:
        if not out.json and not (fix and check["name"] in PROVEN):  # these may be repaired first
            _show(app, check)

    checks = Examination(app, fix=fix).all(begins, ended)
    out.working("")
    unconfined = any(check["name"] == "sandbox" and not check["ok"] for check in checks)
    if fix and unconfined and machine_repair.offer(out):
        again = _proven(app)
        named = {check["name"] for check in again}
        checks = [check for check in checks if check["name"] not in named] + again
    for check in checks:
        if fix and check["name"] in PROVEN and not out.json:
            _show(app, check)
    if out.json:
        out.document({"checks": checks})
    return 0 if all(check["ok"] for check in checks) else 1


class Examination:
    """Makes all checks, quick ones first: those of this program, the daemon's quick ones, then the proofs of a run."""

    def __init__(self, app: App, *, fix: bool) -> None:
        self._app, self._fix = app, fix

    def all(self, begins: Callable[[str], None], ended: Callable[[Document], None]) -> list[Document]:
        """Return every check in the order of `--json`. `begins` is told what is checked now, `ended` each result."""
        app = self._app
        local: list[Document] = []
        for name, examine in (
            ("permissions", lambda: _permissions(app, self._fix)),
            ("disk", lambda: _disk(app)),
            ("settings", lambda: _settings(app)),
        ):
            local.append(_check(name, examine))
            ended(local[-1])
        begins("sign-in, broker and daemon")
        brokers, live, daemon = self._reached()
        named = {check["name"] for check in live}  # of a check that both made, the daemon's counts
        local += [check for check in brokers if check["name"] not in named]
        for check in (*local[3:], daemon, *live):
            ended(check)
        begins("sandbox and gate, which takes up to a minute")
        slow = self._proofs(daemon, known=named)
        for check in slow:
            ended(check)
        return [*(check for check in local if check["name"] not in named), daemon, *live, *slow]

    def _reached(self) -> tuple[list[Document], list[Document], Document]:
        """Return the checks of sign-ins and brokers, the daemon's quick ones, and that of the daemon itself.

        They are made at one time: a broker that hangs holds up nothing else.
        """
        from concurrent.futures import ThreadPoolExecutor

        app = self._app
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(lambda: app.client.doctor(fix=self._fix, part="quick")["checks"])
            clock = pool.submit(lambda: _check("clock", lambda: _clock(app)))
            brokers = [*_brokers(app), clock.result()]
            try:
                live: list[Document] = asked.result()
            except Unauthorized:
                waits = "running, and waiting for this machine to sign in"
                return brokers, [], {"name": "daemon", "ok": True, "detail": waits, "fix": "", "away": True}
            except DispatchError as error:
                return brokers, [], _broken("daemon", error) | {"away": isinstance(error, DaemonUnreachable)}
        return brokers, live, {"name": "daemon", "ok": True, "detail": "running", "fix": ""}

    def _proofs(self, daemon: Document, *, known: set[str]) -> list[Document]:
        """Return the checks of sandbox and gate: the daemon's, or this program's where none runs as a node."""
        if away := daemon.pop("away", None):
            return _proven(self._app)
        if away is not None or {"sandbox", "gate"} <= known:  # a daemon of before has made all its checks at once
            return []
        try:
            checks: list[Document] = self._app.client.doctor(fix=self._fix, part="proof")["checks"]
        except DispatchError as error:
            return [_broken("sandbox", error)]
        return [check for check in checks if check["name"] not in known]


def _show(app: App, check: Document) -> None:
    mark = "ok    " if check["ok"] else "broken"
    if check["ok"] and check.get("proven") is False:
        mark = "?     "
    app.out.line(f"{mark}  {check['name']}: {homes(str(check['detail']))}", style=_style(check, mark), hanging=8)
    paths = check.get("paths") or []
    for row in paths[:PATHS_SHOWN]:
        app.out.line(f"{string(row.get('peer'))}: {how_connected(row)}", indent=8)
    if len(paths) > PATHS_SHOWN:
        app.out.line(f"and {len(paths) - PATHS_SHOWN} more: `dispatch contacts`", indent=8)
    if not check["ok"] and check.get("fix"):
        app.out.line(f"fix: {check['fix']}", indent=8)


def _style(check: Document, mark: str) -> str:
    return "yellow" if mark.startswith("?") else "green" if check["ok"] else "red"


def _check(name: str, examine: Callable[[], str]) -> Document:
    """Return a check's row: the detail that `examine` returns, or the error that it raises."""
    try:
        return {"name": name, "ok": True, "detail": examine(), "fix": ""}
    except DispatchError as error:
        return _broken(name, error)


def _broken(name: str, error: DispatchError) -> Document:
    return {"name": name, "ok": False, "detail": error.message, "fix": error.fix}


def _permissions(app: App, fix: bool) -> str:
    folder = app.unchecked_folder
    if not folder.path.exists():
        raise Unavailable(f"there is no state folder {folder.path} yet", fix="run `dispatch login --broker URL`")
    repaired = folder.repair() if fix else []
    if problems := folder.problems():
        found = "; ".join(f"{path} {wrong}" for path, wrong, _ in problems)
        raise Unavailable(found, fix="; ".join(dict.fromkeys(fix for _, _, fix in problems)))
    if repaired:
        return "repaired " + ", ".join(str(path) for path in repaired)
    return f"only you can access {folder.path}"


def _settings(app: App) -> str:
    from peer.machine import settings

    settings.load(app.folder)
    return f"{app.folder.config} is valid" if app.folder.config.exists() else "all at their defaults"


def _brokers(app: App) -> list[Document]:
    """Return the checks `sign-in` and `broker` of the first broker, and the same of each further one by its URL."""
    from peer.machine import settings

    try:
        resolved = settings.resolve(app.folder, broker=app.broker, token=app.token)
        resolved.require_broker()
    except DispatchError as error:
        return [_broken("sign-in", error), _broken("broker", error)]
    from concurrent.futures import ThreadPoolExecutor

    urls = [each.url for each in resolved.sign_ins]
    of = {url: "" if url == urls[0] else f" {url}" for url in urls}
    with ThreadPoolExecutor(len(urls)) as pool:  # one that hangs holds up no other
        reached = list(pool.map(lambda url: _check(f"broker{of[url]}", lambda: _broker(url)), urls))
    signed_in = [_check(f"sign-in{of[url]}", partial(_sign_in, resolved.at(url))) for url in urls]
    return [*signed_in, *reached]


def _sign_in(resolved: Settings) -> str:
    resolved.require_token()
    return f"{resolved.email or 'a token'} at {resolved.broker}"


def _broker(url: str) -> str:
    status, _ = _get_status(url)
    if status != 200:
        raise Unavailable(f"{url}/health answers {status}", fix="ask whoever runs the broker")
    return f"{url} is healthy"


def _clock(app: App) -> str:
    """Compare this machine's clock with the broker's Date."""
    import time
    from email.utils import parsedate_to_datetime

    from peer.machine import settings

    try:
        url = settings.resolve(app.folder, broker=app.broker, token=app.token).require_broker()
        off = time.time() - parsedate_to_datetime(_get_status(url)[1] or "").timestamp()
    except (DispatchError, ValueError, TypeError, OverflowError):  # what is wrong with the broker is said of it
        return "not compared: no broker answers"
    if abs(off) > CLOCK_SECONDS:
        raise Unavailable(
            f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the broker's",
            fix="set this machine's clock: `timedatectl set-ntp true`; until then, signed requests are refused",
        )
    return f"within {CLOCK_SECONDS:.0f} s of the broker's"


def _disk(app: App) -> str:
    import shutil

    folder = app.unchecked_folder.path
    place = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(place).free
    if free < LEAST_FREE_BYTES:
        raise Unavailable(
            f"only {free >> 20:,} MB free on the disk of {folder}, of {LEAST_FREE_BYTES >> 20:,} MB needed",
            fix="free some space, or keep less of ended dispatches: `dispatch config set retention_mb MB`",
        )
    return f"{free >> 20:,} MB free"


def _get_status(url: str) -> tuple[int, str | None]:
    """Return the HTTP status and the Date of the broker's /health. Proxies of the environment are not used."""
    import http.client
    from urllib.parse import urlsplit

    from peer.machine import certificates

    parts = urlsplit(url)
    if parts.scheme == "https":
        certificates.check_named()
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=BROKER_SECONDS)
    try:
        connection.request("GET", f"{parts.path}/health")
        response = connection.getresponse()
        return response.status, response.getheader("date")
    except (OSError, http.client.HTTPException) as error:
        if (why := certificates.problem(error)) is not None:
            raise Unavailable(f"broker {url}: {why}", fix=certificates.FIX) from error
        raise Unavailable(
            f"can't reach broker {url}: {error}",
            fix="check its address with `dispatch whoami`, and that it is running; known contacts keep working",
        ) from error
    finally:
        connection.close()


def _proven(app: App) -> list[Document]:
    """Run the agent program's proof of sandbox and gate, which the daemon runs where there is one."""
    try:
        runtime = _runtime(app)
        found = asked("--prove", runtime)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        no_answer = Unavailable(f"`dp-agent --prove` gave no answer: {error}", fix=again())
        return [_broken("sandbox", no_answer), _broken("gate", no_answer)]
    return [
        _check("sandbox", lambda: sandbox_proof.sandbox(found)) | sandbox_proof.facts(found),
        _check("gate", lambda: sandbox_proof.gate(found, runtime)),
    ]


def _runtime(app: App) -> str:
    """Return the runtime of the settings; the default one if they cannot be read, which another check reports."""
    from peer.machine import settings

    try:
        return settings.load(app.folder).runtime
    except DispatchError:
        return settings.Settings().runtime


def _because(sandbox: Document) -> str:
    return f" ({sandbox['reason']})" if sandbox.get("reason") else ""
