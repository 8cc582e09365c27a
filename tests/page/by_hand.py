"""The page without a browser: its requests made by hand, as whoever tries them makes them. No tests here."""

from __future__ import annotations

import http.client
import json
from contextlib import closing

from tests.conftest import HANG
from tests.page.browser import port
from tests.system.world import Person


class Page:
    """The page's requests by hand, signed in as `dispatch open` leads."""

    def __init__(self, person: Person, code: str = "") -> None:
        """`code` is from the address that `dispatch open` gives; without it one is asked for."""
        self.person = person
        self.host = f"127.0.0.1:{port(person)}"
        code = code or person.client.page_code()["code"]
        answer, body = self.call("POST", "/v1/page/sign-in", {"code": code}, cookie="", key="")
        assert answer.status == 200
        self.set_cookie = answer.getheader("set-cookie") or ""
        self.cookie = self.set_cookie.partition(";")[0]
        self.key = json.loads(body)["key"]

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        cookie: str | None = None,
        key: str | None = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        given = {
            "Origin": f"http://{self.host}",
            "Cookie": self.cookie if cookie is None else cookie,
            "X-Dispatch-Page": self.key if key is None else key,
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(self.host, timeout=HANG)) as connection:
            sent = raw if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            return answer, answer.read()
