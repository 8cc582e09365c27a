"""Models as people have them: gateways with tokens and paths, private authorities, HTTP proxies, own prices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from peer.machine import model_key, model_route, settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, Unavailable
from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.route import trust, untrusted
from tests.company_proxy import company_proxy
from tests.rendezvous.world import make_certificate
from tests.sandbox.fake_model import FakeModel, model_proxy, say, serving
from tests.sandbox.test_model_proxy import BODY, door


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({"ANTHROPIC_AUTH_TOKEN": "gateway-token"}, (b"authorization", b"Bearer gateway-token")),
        ({"ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_API_KEY": "k"}, (b"authorization", b"Bearer t")),
        ({"ANTHROPIC_API_KEY": "k"}, (b"x-api-key", b"k")),
    ],
)
def test_a_gateway_s_token_is_sent_as_bearer(
    tmp_path: Path, variables: dict[str, str], sent: tuple[bytes, bytes]
) -> None:
    key = settings.resolve(StateFolder(tmp_path / "state"), env=variables).model.api_key
    assert AnthropicMessages().key_headers(key) == [sent]


def test_a_token_can_be_saved_with_its_scheme(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    settings.save(folder, settings.set_value(settings.Settings(), "model.api_key", "Bearer gateway-token"))
    key = settings.resolve(folder, env={}).model.api_key
    assert AnthropicMessages().key_headers(key) == [(b"authorization", b"Bearer gateway-token")]


def test_the_authorities_are_those_of_the_file(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    assert trust(str(certificate)).cert_store_stats()["x509_ca"] >= 0
    assert trust(None).cert_store_stats()["x509_ca"] > 0
    for unusable in (tmp_path / "absent", key, tmp_path):
        with pytest.raises(SandboxError, match=r"cannot be used|is not a file") as refused:
            trust(str(unusable))
        assert "SSL_CERT_FILE" in refused.value.fix


def test_only_a_certificate_is_called_one() -> None:
    assert untrusted(httpx.ConnectError("refused")) == "" and untrusted(None) == ""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[tuple[str, str, Path, FakeModel, Any]]:
    """(gateway, proxy, authority's file, the gateway, the proxy): TLS by a private authority, behind a proxy."""
    certificate, key = make_certificate(tmp_path)
    with company_proxy() as proxy, serving(FakeModel([say("hello")]), certificate=(certificate, key)) as model:
        address = f"127.0.0.1:{proxy.server_address[1]}"
        yield model.url, address, certificate, model, proxy


async def test_a_gateway_behind_a_proxy_with_a_private_authority(
    tmp_path: Path,
    company: tuple[str, str, Path, FakeModel, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Seen to fail: no proxy was used, and authorities could only be given in place of the system's."""
    caplog.set_level("DEBUG")
    url, proxy_at, authority, model, proxy = company
    options = {"more_ca_file": str(authority), "http_proxy": f"http://alice:p%40ss@{proxy_at}"}
    async with door(model_proxy(f"{url}/team/anthropic", "Bearer gateway-token", **options), tmp_path) as client:
        answer = await client.post("/v1/messages", json=BODY)
        assert answer.status_code == 200, answer.text
    ((path, headers, _),) = model.seen
    assert (path, headers["authorization"]) == ("/team/anthropic/v1/messages", "Bearer gateway-token")
    assert "x-api-key" not in headers and "proxy-authorization" not in headers
    assert [head[0].split()[0] for head in proxy.heads] == ["CONNECT"] and "gateway-token" not in repr(proxy.heads)
    assert "p@ss" not in caplog.text and "p%40ss" not in caplog.text and "gateway-token" not in caplog.text


@pytest.mark.parametrize(
    ("change", "said", "fix"),
    [
        ({"http_proxy": "http://alice:wrong@{proxy}"}, "407", "model.proxy"),
        ({"more_ca_file": None}, "certificate is not trusted", "model.ca_file"),
        ({"http_proxy": "http://127.0.0.1:1"}, "ConnectError", "model.base_url"),
    ],
)
async def test_a_way_that_does_not_lead_there_is_said(
    tmp_path: Path, company: tuple[str, str, Path, FakeModel, Any], change: dict[str, Any], said: str, fix: str
) -> None:
    url, proxy_at, authority, model, _ = company
    given = {"more_ca_file": str(authority), "http_proxy": "http://alice:p%40ss@{proxy}", **change}
    given["http_proxy"] = given["http_proxy"].format(proxy=proxy_at)
    proxy = model_proxy(url, "k", **given)
    async with door(proxy, tmp_path) as client:
        answer = await client.post("/v1/messages", json=BODY)
    assert (answer.status_code, model.seen) == (502, []) and said in answer.text and "wrong" not in answer.text
    assert proxy.explanation is not None and said in proxy.explanation.reason and fix in proxy.explanation.fix


async def test_a_token_that_a_gateway_echoes_stays_outside(tmp_path: Path) -> None:
    """Seen to fail for a token: its scheme was looked for with it."""
    with serving(FakeModel([say("x")], [(400, {}, b'{"got": "gateway-token"}')])) as model:
        async with door(model_proxy(model.url, "Bearer gateway-token"), tmp_path) as client:
            answer = await client.post("/v1/messages", json=BODY)
    assert answer.json() == {"got": "[key]"}


@pytest.mark.parametrize(
    ("saved", "variables", "proxy"),
    [
        ({}, {}, ""),
        ({}, {"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({}, {"HTTPS_PROXY": "a:1"}, "http://a:1"),
        ({}, {"https_proxy": "http://b:1", "HTTPS_PROXY": "http://a:1"}, "http://b:1"),
        ({}, {"HTTP_PROXY": "http://a:1", "ALL_PROXY": "http://a:1"}, ""),
        ({}, {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x,anthropic.com"}, ""),
        ({}, {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, ""),
        (
            {"base_url": "https://gw.example/x"},
            {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "anthropic.com"},
            "http://a:1",
        ),
        ({"base_url": "http://127.0.0.1:9"}, {"HTTPS_PROXY": "http://a:1"}, ""),
        ({"proxy": "http://u:p@c:1"}, {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, "http://u:p@c:1"),
        ({"proxy": "none"}, {"HTTPS_PROXY": "http://a:1"}, ""),
    ],
)
def test_which_proxy_is_used(saved: dict[str, str], variables: dict[str, str], proxy: str) -> None:
    said = settings.Settings(model=settings.ModelSettings(**saved))
    assert model_route.http_proxy(said, variables) == proxy


def test_a_proxy_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(Invalid) as refused:
        model_route.http_proxy(settings.Settings(), {"HTTPS_PROXY": "socks5://alice:p%40ss@a:1"})
    assert "p%40ss" not in str(refused.value) and "model.proxy" in (refused.value.fix or "")


def test_what_a_run_is_told_of_its_model(tmp_path: Path) -> None:
    """A run, and nobody who prints it; secrets of the way are masked in what leaves."""
    folder = StateFolder(tmp_path / "state")
    changed = settings.Settings()
    for key, value in {
        "model.name": "own/model",
        "model.price": "3,15,3.75,0",
        "model.proxy": "http://alice:p%40ss@proxy:3128",
        "model.api_key": "Bearer " + "t" * 4000,
        "model.ca_file": str(tmp_path / "ca.pem"),
    }.items():
        changed = settings.set_value(changed, key, value)
    settings.save(folder, changed)
    in_force = settings.resolve(folder, env={})
    model = model_route.model(in_force, {"NODE_EXTRA_CA_CERTS": "/other.pem"})
    assert model.price == frames.ModelPrice(input=3, output=15, cache_write=3.75, cache_read=0)
    assert (model.more_ca_file, model.http_proxy) == (str(tmp_path / "ca.pem"), "http://alice:p%40ss@proxy:3128")
    assert "p%40ss" not in repr(model) and "tttt" not in repr(model)
    assert settings.shown(in_force)["model.proxy"] == settings.MASK
    assert {"t" * 4000, "p@ss", "p%40ss"} <= set(model_route.secrets(in_force))
    # The price is that model's.
    other = settings.resolve(folder, env={"DISPATCH_EXECUTOR_MODEL": "other"})
    assert model_route.price(other) is None and model_route.unpriced(other) and not model_route.unpriced(in_force)
    assert not model_route.unpriced(settings.resolve(folder, env={"DISPATCH_EXECUTOR_MODEL": "claude-opus-5"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.price", "3,15"),
        ("model.price", "3,15,-1,1"),
        ("model.price", "nan,1,1,1"),
        ("model.proxy", "socks5://a:1"),
        ("model.proxy", "a:1"),
        ("model.proxy", "http://a/x"),
    ],
)
def test_what_is_no_price_and_no_proxy(key: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings.set_value(settings.Settings(), key, value)
    assert key in str(refused.value)


@pytest.mark.parametrize("service", ["BEDROCK", "VERTEX", "FOUNDRY"])
def test_a_service_that_is_not_reached_is_the_reason(tmp_path: Path, service: str) -> None:
    variables = {f"CLAUDE_CODE_USE_{service}": "1"}
    with pytest.raises(Unavailable, match=f"CLAUDE_CODE_USE_{service}") as refused:
        model_key.require(settings.resolve(StateFolder(tmp_path / "state"), env=variables))
    assert "model.base_url" in (refused.value.fix or "")
    with_key = settings.resolve(StateFolder(tmp_path / "state"), env={**variables, "ANTHROPIC_API_KEY": "k"})
    model_key.require(with_key)
