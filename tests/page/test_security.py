"""The loopback port as whoever tries it finds it: raw requests to a real daemon, and what its browser keeps."""

from __future__ import annotations

import http.client
import json
import re
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from playwright.sync_api import expect

from peer.api.page.uploads import MAX_WAITING
from peer.client.blocking import find_daemon
from peer.protocol.content import MAX_FILE_BYTES
from tests.conftest import HANG, more
from tests.page.browser import port
from tests.page.by_hand import Page
from tests.page.conftest import Opener
from tests.system.world import Person

Pair = tuple[Person, Person]


def test_a_code_is_spent_once_and_the_cookie_is_the_pages_alone(pair: Pair) -> None:
    _, bob = pair
    page = Page(bob)
    for word in ("HttpOnly", "SameSite=strict", "Path=/v1/", "Max-Age="):
        assert word in page.set_cookie, page.set_cookie
    assert "Domain" not in page.set_cookie and page.cookie.startswith(f"dispatch-page-{port(bob)}=")
    code = bob.client.page_code()["code"]
    assert page.call("POST", "/v1/page/sign-in", {"code": code})[0].status == 200
    answer, body = page.call("POST", "/v1/page/sign-in", {"code": code})
    error = json.loads(body)["error"]
    assert answer.status == 401 and "used already" in error["message"] and "dispatch open" in error["fix"]
    # A page cannot make itself, or anybody, another session.
    answer, body = page.call("POST", "/v1/page/codes")
    assert answer.status == 403 and "code" not in json.loads(body)
    assert page.call("DELETE", "/v1/page/session")[0].status == 200
    assert page.call("GET", "/v1/page/session")[0].status == 401


def test_the_token_opens_nothing_from_an_address_or_a_cookie(pair: Pair) -> None:
    _, bob = pair
    _, token = find_daemon(bob.state)
    page = Page(bob)
    for path in (f"/v1/whoami?token={token}", f"/v1/whoami?access_token={token}&key={token}", f"/?token={token}"):
        answer, body = page.call("GET", path, cookie=f"dispatch-page-{port(bob)}={token}", key=token)
        assert answer.status == (200 if path.startswith("/?") else 401)
        assert token.encode() not in body


def test_every_kind_of_answer_is_armoured_and_typed(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will({"tool": "Write", "input": {"file_path": "out/page.html", "content": "<script>alert(1)</script>"}})
    dispatch_id = alice.client.send(bob.email, "Make a page")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.state_of(dispatch_id, "completed")
    page = Page(bob)
    _, source = page.call("GET", "/inbox")
    build = re.search(rb"/page/([0-9a-f]{16})/app.js", source)
    assert build is not None
    kinds = {
        "/inbox": "text/html; charset=utf-8",
        f"/page/{build[1].decode()}/app.js": "text/javascript; charset=utf-8",
        f"/page/{build[1].decode()}/style.css": "text/css; charset=utf-8",
        "/v1/page/session": "application/json",
        "/v1/nothing": "application/json",
        f"/v1/dispatches/{dispatch_id}/files/returned/0": "application/octet-stream",
    }
    for path, kind in kinds.items():
        answer, body = page.call("GET", path)
        assert answer.getheader("content-type") == kind, path
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert answer.getheader("x-frame-options") == "DENY"
        assert answer.getheader("referrer-policy") == "no-referrer"
        assert answer.getheader("cross-origin-opener-policy") == "same-origin"
        assert answer.getheader("cross-origin-resource-policy") == "same-origin"
        assert answer.getheader("access-control-allow-origin") is None
        policy = answer.getheader("content-security-policy") or ""
        assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
        assert len(answer.headers.get_all("content-security-policy") or []) == 1
        if path.endswith("/0"):
            assert answer.getheader("content-disposition") == "attachment; filename*=UTF-8''page.html"
            assert body == b"<script>alert(1)</script>"
    assert b"<script>" not in source and b"style=" not in source and b" on" not in re.sub(rb">[^<]*<", b"><", source)


def test_the_files_of_a_dispatch_and_no_others(pair: Pair) -> None:
    alice, bob = pair
    page = Page(bob)
    dispatch_id = alice.client.send(bob.email, "No files")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    for path in (
        f"/v1/dispatches/{dispatch_id}/files/attachments/0",
        f"/v1/dispatches/{dispatch_id}/files/returned/0",
        f"/v1/dispatches/{dispatch_id}/files/secrets/0",
        "/v1/dispatches/..%2f..%2fdevice.key/files/returned/0",
        f"/v1/dispatches/{dispatch_id}/files/returned/..%2f..%2fdevice.key",
        "/page/x/..%2f..%2froutes.py",
        "/page/../routes.py",
    ):
        assert page.call("GET", path)[0].status in (404, 422), path


def test_uploads_are_bounded_private_and_gone_when_they_should(pair: Pair) -> None:
    alice, bob = pair
    page = Page(alice)

    def upload(name: str, content: bytes) -> tuple[int, dict[str, Any]]:
        answer, body = page.call("POST", "/v1/page/uploads", raw=content, X_File_Name=name)
        return answer.status, json.loads(body)

    status, taken = upload("notes%20%C3%A9.txt", b"hello")
    assert (status, taken["name"], taken["size"]) == (200, "notes é.txt", 5)
    place = alice.state.uploads / taken["upload"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "notes é.txt").stat().st_mode) == 0o600
    for name, content, code in (
        ("..%2Fdevice.key", b"x", 422),
        ("%2Fetc%2Fpasswd", b"x", 422),
        ("..", b"x", 422),
        ("", b"x", 422),
        ("con.txt", b"x", 422),
        ("a%00b", b"x", 422),
        ("%E2%80%AEtxt.exe", b"x", 422),
        ("empty.txt", b"", 422),
        ("large.bin", b"x" * (MAX_FILE_BYTES + 1), 413),
    ):
        assert upload(name, content)[0] == code, name
    assert [path.name for path in alice.state.uploads.iterdir()] == [taken["upload"]], "what is refused leaves nothing"
    sending = {"recipient": bob.email, "task": "With a file"}
    for wrong in (["../" + taken["upload"]], ["0" * 32], ["/etc/passwd"], [taken["upload"]] * 2):
        assert page.call("POST", "/v1/page/dispatches", sending | {"files": wrong})[0].status in (404, 422)
    # Refused, it stays for another try; sent, it is gone from there.
    answer, _ = page.call("POST", "/v1/page/dispatches", sending | {"task": " ", "files": [taken["upload"]]})
    assert answer.status == 422 and place.exists()
    answer, body = page.call("POST", "/v1/page/dispatches", sending | {"files": [taken["upload"]]})
    assert answer.status == 200 and not place.exists()
    dispatch_id = json.loads(body)["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    (file,) = bob.client.dispatch(dispatch_id)["files"]
    assert (file["name"], file["size"]) == ("notes é.txt", 5)
    kept = [upload(f"{n}.txt", b"x")[1]["upload"] for n in range(MAX_WAITING)]
    assert upload("more.txt", b"x")[0] == 413
    assert page.call("DELETE", "/v1/page/uploads", {"uploads": [*kept, "../x"]})[0].status == 200
    assert not list(alice.state.uploads.iterdir())


def test_streams_are_bounded_and_end_with_their_session(pair: Pair) -> None:
    alice, bob = pair
    page = Page(bob)

    @contextmanager
    def opened(last: str = "") -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection(page.host, timeout=HANG)) as connection:
            headers = {"Cookie": page.cookie, "X-Dispatch-Page": page.key} | ({"Last-Event-ID": last} if last else {})
            connection.request("GET", "/v1/page/stream", headers=headers)
            yield connection.getresponse()

    with opened() as first:
        assert first.status == 200 and first.readline() == b"event: reset\n"
        position = first.readline().decode().removeprefix("id: ").strip()
        assert page.call("DELETE", "/v1/page/session")[0].status == 200
        later = alice.client.send(bob.email, "After the end of the session")["dispatch_id"]
        while line := first.readline():  # when something happens, it looks whether it still may say it
            assert later.encode() not in line
    page = Page(bob)
    with opened(position) as again:
        assert again.readline() != b"event: reset\n", "it goes on where it was"
    for wrong in ("x", "a-b-c", "life-1", "-1-1", "l" * 20 + "-1-1", "life-1--1"):
        with opened(wrong) as refused:
            assert refused.status == 422, wrong


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_requests_in_a_row(pair: Pair, count: int) -> None:
    _, bob = pair
    page = Page(bob)
    assert bob.program is not None
    import psutil

    daemon = psutil.Process(bob.program.pid)

    def requests(number: int) -> None:
        with closing(http.client.HTTPConnection(page.host, timeout=HANG)) as connection:
            for n in range(number):
                guess = n % 2 == 0
                headers = {"Cookie": page.cookie, "X-Dispatch-Page": "guess" if guess else page.key}
                connection.request("GET", "/v1/page/session", headers=headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == (401 if guess else 200)

    requests(500)  # what is loaded when first used is loaded
    before, open_before = daemon.memory_info().rss, daemon.num_fds()
    requests(count - 500)
    assert daemon.num_fds() <= open_before + 5
    assert daemon.memory_info().rss - before < 16 * 1024 * 1024
    assert page.call("GET", "/v1/page/session")[0].status == 200


def test_a_token_of_before_a_restart_opens_nothing(pair: Pair) -> None:
    """Seen to fail with a token that is the same at every start."""
    _, bob = pair
    page = Page(bob)
    _, old = find_daemon(bob.state)
    bob.restart()
    _, now = find_daemon(bob.state)
    page.host = f"127.0.0.1:{port(bob)}"
    for path in ("/v1/whoami", "/v1/page/session"):
        for token, status in ((old, 401), (now[:-1], 401), ("", 401), (now, 200)):
            answer, body = page.call("GET", path, cookie="", key="", Authorization=f"Bearer {token}")
            assert answer.status == status, (path, body)
            assert old.encode() not in body and now.encode() not in body


def test_what_the_browser_and_the_log_keep(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that leaves the code in its address, and with a log that names it."""
    alice, bob = pair
    _, token = find_daemon(bob.state)
    tab = new_tab(bob)
    urls: list[str] = []
    tab.page.on("request", lambda request: urls.append(request.url))
    address = bob.cli("open", "--no-browser", "--json").json["url"]
    code = address.partition("#code=")[2]
    tab.page.goto(address)
    tab.page.locator(".tabs").wait_for()
    dispatch_id = alice.client.send(bob.email, "Words that no log has: xylophone")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    expect(tab.page.locator(".row").first).to_contain_text("xylophone")
    assert tab.page.url == f"http://127.0.0.1:{port(bob)}/", "the code has left the address"
    assert tab.page.evaluate("history.length") <= 2
    kept = tab.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    (cookie,) = [each for each in tab.page.context.cookies() if each["name"].startswith("dispatch-page")]
    for secret in (token, cookie["value"], code):
        assert secret not in kept
    assert json.loads(kept)[2] == "" and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    key = json.loads(kept)[0]["dispatch-page-key"]
    secrets = (token, cookie["value"], key, code)

    # Whoever goes back through everything that was looked at meets none of them.
    tab.page.locator(".row").first.click()
    tab.page.locator(".asked-for").wait_for()
    for view in ("Contacts", "History", "Health"):
        tab.page.get_by_role("link", name=view).click()
        tab.page.get_by_role("heading", name=view, exact=True).wait_for()
    visited = tab.page.context.new_cdp_session(tab.page).send("Page.getNavigationHistory")["entries"]
    assert len(visited) >= 5
    for entry in visited:
        assert not any(secret in entry["url"] for secret in secrets), entry
        # What the browser itself remembers of how the page was opened is no page's to change: the code is spent.
        assert not any(secret in entry["userTypedURL"] for secret in (token, cookie["value"], key)), entry
    assert Page(bob).call("POST", "/v1/page/sign-in", {"code": code})[0].status == 401
    for _ in visited[1:]:
        tab.page.evaluate(
            "new Promise((done) => { addEventListener('popstate', done, { once: true }); history.back(); })"
        )
        at = tab.page.evaluate("[location.href, document.title, JSON.stringify(history.state)]")
        assert not any(secret in word for secret in secrets for word in at if word)
        if tab.page.url == f"http://127.0.0.1:{port(bob)}/":
            break
    assert tab.page.url == f"http://127.0.0.1:{port(bob)}/"

    log = bob.state.daemon_log.read_text() + (bob.home / "daemon.errors").read_text()
    for secret in (*secrets, "xylophone"):
        assert secret not in log and not any(secret in url for url in urls)


@pytest.mark.parametrize("code", ["", "guessed", *more("x" * 100)])
def test_a_wrong_code_says_how_to_come_in(pair: Pair, new_tab: Opener, code: str) -> None:
    _, bob = pair
    tab = new_tab(bob)
    tab.go(f"/inbox#code={code}")
    expect(tab.page.locator("main")).to_contain_text("dispatch open")
    assert tab.page.url.endswith("/inbox")
    if code:
        expect(tab.page.get_by_role("alert")).to_contain_text("used already")
