"""No text of another machine is shown as ours: a hostile contact and a hostile broker say the same to every question.

What they say imitates our errors and fixes, moves the cursor, turns the line and closes quotations. It is looked for at
every surface: what the command line prints for people and as JSON, the API, the tools of a session, its announcements,
the log and standard error of each program.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from peer.protocol import content
from peer.protocol.statements import TYPES, parts_of
from peer.protocol.table import FIELDS
from tests.hostile_texts import ELSEWHERE, FILLED, LONG, MARK
from tests.mcp_plugin.hosts import Raw, raw
from tests.system.world import Document, Person, Said, World, connect, eventually

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\u2066\u2028]")
WRITTEN = {"task", "project", "background", "deliverable", "links", "meta"}
QUOTATIONS = WRITTEN | {
    "events",
    "reply",
    "usage",
    "scope",
    "sandbox",
    "input",
    "rule_if_always",
    "rule_choices",
    "diff",
}
"""Members of our documents that hold what somebody else wrote, as it is. In every other one it stands quoted."""
RULE = r"(stores this rule on the trust edge|in this run only|--always would store): Bash\("
"""What stands before a rule in its own form, which it ends."""
SESSION = {"reply", "input", "diff", "usage", "rule_if_always", "rule_choices", "text"}
"""The same of a session's results, beside `untrusted_…`; their note says so."""


def test_every_text_of_a_statement_is_said() -> None:
    """A field that is added has to be filled by the hostile daemon, or to say why not."""
    texts = {
        (kind.type_name, part.name)
        for kind in TYPES.values()
        for part in parts_of(kind)
        if "text" in FIELDS[part.name].form.cddl or part.name in ("devices", "files")
    }
    filled = {(kind, field) for kind, fields in FILLED.items() for field in fields}
    assert texts == filled | ELSEWHERE.keys() and not filled & ELSEWHERE.keys()
    assert set(content.FIELDS) - {"files", "parent"} == WRITTEN


# --- what may be where


def check_text(shown: str, *, rows: str = "$^") -> None:
    """Fail if a line of a command has theirs outside of a quotation. `rows`: how a row of a table begins."""
    assert not HIDDEN.search(shown), repr(shown)
    for line in shown.splitlines():
        assert not re.match(r"\s*(error \d+|warning):", line.split("“")[0]) or MARK not in line.split("“")[0], line
        for found in re.finditer(re.escape(MARK), line):
            before = line[: found.start()]
            quoted = before.count("“") > before.count("”")
            assert quoted or re.match(rf" *│ |\s*{RULE}|{rows}", before), line


def check_document(document: object, quotations: set[str], where: str = "") -> None:
    """Fail if a member has theirs that is none of `quotations`, unless quoted in a sentence."""
    if isinstance(document, str):
        sentence = re.sub(f"“[^”]*”|{RULE}.*", "", document)
        assert MARK not in sentence, (where, document)
    elif isinstance(document, Mapping):
        for name, value in document.items():
            assert MARK not in name, (where, name)
            if name in ("fix", "next", "command", "export", "fetch", "code"):
                assert MARK not in json.dumps(value), (where, name, value)
            elif name == "question" and isinstance(value, str):
                check_question(value)
            elif name not in quotations and not name.startswith("untrusted_"):
                check_document(value, quotations, f"{where}.{name}")
    elif isinstance(document, list):
        for each in document:
            check_document(each, quotations, where)


def check_question(text: str) -> None:
    """Fail if a line of a question has theirs at its beginning: they are indented below a line of ours."""
    for line in text.splitlines():
        sentence = re.sub("“[^”]*”", "", line)
        assert MARK not in sentence or line.startswith("    "), line


class Surfaces:
    """Everything that shows Alice something. Each look collects; nothing is decided."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.seen = 0
        """How often theirs was shown: none would prove nothing."""

    def command(self, *arguments: str, rows: str = "$^") -> Said:
        said = self.person.cli(*arguments, status=None)
        for shown in (said, said.errors):
            check_text(shown, rows=rows)
            self.seen += shown.count(MARK)
        plain = self.person.cli(*arguments, "--json", status=None)
        assert plain.isascii()
        for line in [plain] if plain.startswith(("{\n", "[")) else plain.splitlines():
            document = json.loads(line)
            if isinstance(document, dict) and document.get("kind") == "trace":
                document = {"kind": "trace", "events": document["data"]}  # an event of `watch`, as in a document
            check_document(document, QUOTATIONS | ({"reason"} if arguments[0] == "verify-receipt" else set()))
        return said

    def tool(self, host: Raw, name: str, **arguments: object) -> Document:
        result = host.call(name, **arguments)
        (content,) = result["content"]
        assert not HIDDEN.search(json.dumps(result["structuredContent"], ensure_ascii=False))
        self.seen += content["text"].count(MARK)
        if result.get("isError"):
            assert re.fullmatch(r"error \d+: .*(\nfix: .*)?", content["text"]), content
            check_text(content["text"])
        check_document(result["structuredContent"], SESSION)
        return dict(result["structuredContent"])

    def quiet(self) -> None:
        """Look at what is written for nobody in particular: logs and standard error."""
        for path in (self.person.state.daemon_log, self.person.home / "daemon.errors", self.person.home / "mcp.errors"):
            for line in path.read_text().splitlines() if path.exists() else []:
                assert not HIDDEN.search(line), line
                check_document(json.loads(line) if line.startswith("{") else line, set())
        assert MARK not in self.person.state.daemon_json.read_text()


# --- a contact


@pytest.fixture(scope="module")
def mallory(world: World) -> Person:
    mallory = world.person("mallory", start=False)
    mallory.launch(module="tests.hostile_texts")
    mallory.ready()
    return mallory


def test_a_contact(pair: tuple[Person, Person], mallory: Person, tmp_path: Path) -> None:
    """Seen to fail with reasons stored as they came, with a refused file's text passed on, with blocks indented instead
    of quoted, with quotations that are left early, with short fields as they came, and with a tier that is no word.
    """
    alice, _ = pair
    ids = []
    connect(alice, mallory, approval="auto", max_per_day=3)
    connect(mallory, alice)

    def sent(*steps: Document) -> str:
        mallory.will(*steps)
        ids.append(str(alice.client.send(mallory.email, "Hello")["dispatch_id"]))
        alice.state_of(ids[-1], "pending")
        return ids[-1]

    declined = sent()
    mallory.client.decline(declined, reason="no")
    assert alice.state_of(declined, "declined")["message"].startswith(f"{mallory.email} says: “no")
    ended = sent({"say": "first"}, {"tool": "Bash", "input": {"command": "echo x > /dispatch/out/x"}}, {"say": "done"})
    mallory.client.accept(ended)
    assert alice.state_of(ended, "completed")["message"].startswith(f"{mallory.email}'s machine says: “no")
    mallory.client.cancel(sent(), reason="no")
    alice.state_of(ids[-1], "cancelled")
    refused = str(alice.client.send(mallory.email, "one too many")["dispatch_id"])
    assert alice.state_of(refused, "rejected")["fix"] == "send it later"
    ids.append(refused)

    def came(**more: object) -> str:
        ids.append(str(mallory.client.send(alice.email, "Hello", **more)["dispatch_id"]))
        return ids[-1]

    file = tmp_path / "plain.txt"
    file.write_text("x")
    assert "did not arrive" in alice_sees(alice, came(files=[str(file)]), "rejected")["message"]
    alice_sees(alice, came(), "pending")
    mallory.client.cancel(ids[-1], reason="no")
    alice.state_of(ids[-1], "cancelled")
    alice.will({"say": LONG}, {"tool": "Bash", "input": {"command": f"echo '{LONG.replace(chr(13), '')}'"}})
    runs, waits = came(), came()
    for each in (runs, waits):
        alice_sees(alice, each, "pending")
    look = Surfaces(alice)
    row = rf"[0-9a-f]{{8}}  \w+ +{re.escape(mallory.email)} "
    with raw(alice) as host:
        host.initialize()
        look.tool(host, "dispatch_act", action="accept", dispatch_id=runs)
        look.tool(host, "dispatch_read", what="approvals")
        for what in ("inbox", "sent", "contacts", "invitations", "whoami"):
            look.tool(host, "dispatch_read", what=what)
        for each in ids:
            look.tool(host, "dispatch_read", what="status", dispatch_id=each)
        for each in (declined, ended, refused):
            look.tool(host, "dispatch_act", action="watch", dispatch_id=each)
        look.tool(host, "dispatch_act", action="accept", dispatch_id=declined)
        look.tool(host, "dispatch_act", action="cancel", dispatch_id=declined)
        for command in ("inbox", "sent"):
            look.command(command, rows=row)
        for command in ("approvals", "contacts", "invitations", "whoami", "doctor"):
            look.command(command)
        look.command("trust", "show", mallory.email)
        for each in ids:
            look.command("status", each)
            look.command("cancel" if each == declined else "status", each)
        for each in (declined, ended, refused):
            look.command("watch", each)
        alice.client.deny(runs, alice.client.approvals()[0]["request_id"])
        look.tool(host, "dispatch_act", action="watch", dispatch_id=runs)
        look.command("status", runs)
        for each in (ended, runs):
            receipt = alice.home / f"{each}.receipt"
            look.command("receipt", each, "--out", str(receipt))
            look.command("verify-receipt", str(receipt))
    for each in ids:
        check_document(alice.client.dispatch(each), QUOTATIONS)
    for row_ in [*alice.client.dispatches("sent")["dispatches"], *alice.client.dispatches("received")["dispatches"]]:
        check_document(row_, QUOTATIONS)
    assert MARK not in alice.client.dispatch(ended)["result"]["sandbox"]["canaries"]
    look.quiet()
    assert look.seen > 100, "theirs was shown often, and nowhere as ours"
    alice.client.cancel(waits)
    mallory.stop()


def alice_sees(alice: Person, dispatch_id: str, state: str) -> Document:
    eventually(
        lambda: dispatch_id in [row["dispatch_id"] for row in alice.client.dispatches("received")["dispatches"]],
        what="its arrival",
    )
    return alice.state_of(dispatch_id, state)


# --- a broker


@contextmanager
def hostile_broker(url: str) -> Iterator[dict[str, tuple[int, Document]]]:
    """Serve at this address; yield what it answers by path, "" for all others."""
    problem = {"title": LONG, "detail": LONG, "fix": LONG, "status": 403, "error_description": LONG}
    answers: dict[str, tuple[int, Document]] = {"": (403, problem)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            path = urlsplit(self.path).path
            code, document = answers.get(f"{self.command} {path}", answers[""])
            body = json.dumps(document).encode()
            self.send_response(code, LONG.split("\r")[0].encode("ascii", "replace").decode())
            self.send_header("content-type", "application/problem+json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", urlsplit(url).port or 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A world of its own: its broker is replaced."""
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.long
def test_a_broker(own_world: World) -> None:
    """Seen to fail with the broker's own `fix` passed on, and with line ends kept in quotations and by a session."""
    world = own_world
    alice = world.person("alice")
    look = Surfaces(alice)
    stranger = Person("stranger", world.folder / "stranger", world.broker)
    world.broker.stop()
    with hostile_broker(world.broker.url) as answers:
        alice.restart()
        for code in (400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 503):
            answers[""] = (code, {**answers[""][1], "status": code})
            look.command("invite", "new@example.org")
            look.command("accept-invitation", "01930000-0000-7000-8000-000000000000", "--tools", "Read")
            said = stranger.cli("login", "--broker", world.broker.url, "--email", stranger.email, status=None)
            check_text(said + said.errors)
            look.seen += said.errors.count(MARK)
        answers["GET /health"] = (200, {"origin": LONG, "dev": True, "mail": True})
        answers["POST /v1/invitations"] = (200, {"token": LONG, "to": LONG, "emailed": True, "existing": False})
        prompt = {"device_code": LONG, "user_code": LONG, "verification_uri": LONG, "verification_uri_complete": LONG}
        answers["POST /v1/login/device"] = (200, {**prompt, "expires_in": 60, "interval": 1})
        look.command("invite", "new@example.org")
        said = stranger.cli("login", "--broker", world.broker.url, "--email", stranger.email, status=None)
        check_text(said + said.errors)
        prompt |= {"user_code": "ABCD-EFGH", "verification_uri": f"{world.broker.url}/login"}
        prompt |= {"verification_uri_complete": f"{world.broker.url}/login?x=1"}
        answers["POST /v1/login/device"] = (200, {**prompt, "expires_in": 60, "interval": 1})
        answers["POST /v1/login/token"] = (400, {"error": LONG, "error_description": LONG})
        said = stranger.cli("login", "--broker", world.broker.url, "--email", stranger.email, status=None)
        check_text(said + said.errors)
        assert MARK in said.errors
        with raw(alice) as host:
            host.initialize()
            look.tool(host, "dispatch_invite", action="send", to_email="new@example.org")
            answers["POST /v1/invitations"] = answers[""]
            look.tool(host, "dispatch_invite", action="send", to_email="newer@example.org")
            look.tool(host, "dispatch_read", what="whoami")
        for command in ("whoami", "doctor", "invitations", "logout"):
            look.command(command)
    look.quiet()
    assert look.seen > 20
