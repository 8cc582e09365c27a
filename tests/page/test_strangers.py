"""The page of somebody else, in the browser that is signed in here: its frames, scripts, forms, fetches and streams.

The same attempts are made at a server that guards nothing, where each succeeds: else they would prove nothing here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import Page, Response

from tests.page.browser import port
from tests.page.conftest import Opener
from tests.system.world import Person

Pair = tuple[Person, Person]


class Unguarded:
    """A server on another port of this host that lets everybody do everything, and remembers what reached it."""

    def __init__(self) -> None:
        self.cookies: list[str] = []
        self.accepted = 0
        self.origin = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve while the block runs."""
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                target.cookies.append(self.headers.get("cookie", ""))
                kind, body = "text/html", b"<!doctype html><title>stranger</title><p>shown to everybody"
                if self.path == "/v1/whoami":
                    kind, body = "text/javascript", b"window.ran = true"
                elif self.path.startswith("/v1/page/stream"):
                    kind, body = "text/event-stream", b": open\n\n"
                self.reply(kind, body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", "0")))
                target.accepted += 1
                self.reply("text/html", b"accepted")

            def do_OPTIONS(self) -> None:
                self.reply("text/plain", b"")

            def reply(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                if origin := self.headers.get("origin"):
                    self.send_header("access-control-allow-origin", origin)
                    self.send_header("access-control-allow-credentials", "true")
                    self.send_header("access-control-allow-headers", "x-dispatch-page")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def test_the_page_of_a_stranger_gets_nothing(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a guard that does not look where a request comes from and a policy that lets all frame it."""
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "Private words")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.open(dispatch_id)
    tab.page.get_by_role("button", name="Accept and run").wait_for()
    own = f"http://127.0.0.1:{port(bob)}"
    told: set[tuple[str, str, int]] = set()
    said: list[str] = []

    def take(answer: Response) -> None:
        told.add((answer.request.method, answer.url, answer.status))

    home, open_to_all = Unguarded(), Unguarded()
    with home.serving(), open_to_all.serving():
        stranger = tab.page.context.new_page()
        stranger.on("response", take)
        stranger.on("console", lambda message: said.append(message.text))
        stranger.goto(f"{home.origin}/v1/whatever")
        there = stranger.evaluate(ATTEMPTS, [open_to_all.origin, dispatch_id])
        there["is framed"] = framed(stranger, f"{open_to_all.origin}/dispatches/{dispatch_id}")
        here = stranger.evaluate(ATTEMPTS, [own, dispatch_id])
        here["is framed"] = framed(stranger, f"{own}/dispatches/{dispatch_id}")

    assert there == {
        "reads": "done",
        "accepts": "done",
        "streams": "open",
        "runs its script": "ran",
        "is framed": "shown to everybody",
    }
    assert open_to_all.accepted == 3, "by fetch, blindly, and by a form"
    assert here == {
        "reads": "refused",
        "accepts": "refused",
        "streams": "error",
        "runs its script": "error",
        "is framed": "",
    }
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    # What the browser hands over to nobody was refused by the daemon before, as far as it tells.
    assert {answer for answer in told if answer[1].startswith(own)} == {
        ("GET", f"{own}/dispatches/{dispatch_id}", 403),
        ("POST", f"{own}/v1/dispatches/{dispatch_id}/accept", 403),
    }
    assert any(own in each and "frame-ancestors" in each for each in said), said

    # The cookie does go to every port of the host: alone it opens nothing, and the key does not.
    key = tab.page.evaluate("localStorage.getItem('dispatch-page-key')")
    heard = " ".join(home.cookies + open_to_all.cookies)
    assert f"dispatch-page-{port(bob)}=" in heard
    assert key and key not in heard and stranger.evaluate("localStorage.length") == 0


def framed(page: Page, address: str) -> str:
    """Put an address in a frame; return the text that is shown there, "" where the browser shows none of it."""
    frame = page.evaluate_handle(
        """(address) => new Promise((resolve) => {
          const frame = document.createElement("iframe");
          frame.onload = () => resolve(frame);
          frame.src = address;
          document.body.append(frame);
        })""",
        address,
    ).as_element()
    assert frame is not None
    inside = frame.content_frame()
    assert inside is not None
    return inside.locator("body").inner_text().strip() if inside.url == address else ""


ATTEMPTS = """async ([target, id]) => {
  const settle = (work) => work.then(() => "done", () => "refused");
  const fetching = (path, more = {}) => fetch(path, { credentials: "include", ...more });
  const posting = { method: "POST", body: "{}" };
  const guessing = { "x-dispatch-page": "guess" };
  const accept = `${target}/v1/dispatches/${id}/accept`;
  const put = (name, given) => document.body.appendChild(Object.assign(document.createElement(name), given));

  const inside = put("iframe", { name: `target-${target}` });
  const form = put("form", { method: "post", action: accept, target: inside.name, enctype: "text/plain" });
  const posted = new Promise((resolve) => { inside.onload = resolve; });
  form.submit();
  await posted;
  await settle(fetching(accept, { ...posting, mode: "no-cors" }));

  const source = new EventSource(`${target}/v1/page/stream`, { withCredentials: true });
  const streamed = await new Promise((resolve) => {
    source.onopen = () => resolve("open");
    source.onerror = () => resolve("error");
  });
  source.close();
  const loaded = new Promise((resolve) => {
    put("script", { src: `${target}/v1/whoami`, onload: () => resolve("ran"), onerror: () => resolve("error") });
  });
  return {
    "reads": await settle(fetching(`${target}/v1/whoami`)),
    "accepts": await settle(fetching(accept, { ...posting, headers: guessing })),
    "streams": streamed,
    "runs its script": await loaded,
  };
}"""
