"""Gateways in front of the model: a token in place of a key, and a certificate of a private authority."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from peer.machine import settings
from peer.machine.state_folder import StateFolder
from sandbox.errors import SandboxError
from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.proxy import _trust, _untrusted
from tests.rendezvous.world import make_certificate


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
    assert _trust(str(certificate)).cert_store_stats()["x509_ca"] >= 0
    assert _trust(None).cert_store_stats()["x509_ca"] > 0
    for unusable in (tmp_path / "absent", key, tmp_path):
        with pytest.raises(SandboxError, match=r"cannot be used|is no file") as refused:
            _trust(str(unusable))
        assert "SSL_CERT_FILE" in refused.value.fix


def test_only_a_certificate_is_called_one() -> None:
    assert _untrusted(httpx.ConnectError("refused")) == "" and _untrusted(None) == ""
