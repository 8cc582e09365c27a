"""The way to granted hosts: by the person's HTTP proxy, or without one."""

from __future__ import annotations

import pytest

from peer.machine import network_route
from peer.machine.settings import ModelSettings, Settings
from peer.protocol.errors import Invalid
from peer.trust.scopes import Registry, Scope

HOSTS = ("git.example.org:8443", "github.com")
SCOPE = Scope(tools=("Bash",), network=HOSTS)


def test_without_a_proxy() -> None:
    found = network_route.network(SCOPE, Settings(), {})
    assert [(host.name, host.port, host.by_proxy) for host in found.hosts] == [
        ("git.example.org", 8443, False),
        ("github.com", 443, False),
    ]
    assert (found.http_proxy, found.ca_file, found.more_ca_file) == (None, None, None)
    assert network_route.by_proxy(SCOPE, Settings(), {}) == []


@pytest.mark.parametrize(
    ("variables", "proxy", "by"),
    [
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128", [*HOSTS]),
        ({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "example.org"}, "http://proxy.example:3128", ["github.com"]),
        ({"HTTPS_PROXY": "http://a:b@p.example", "https_proxy": "http://low.example"}, "http://low.example", [*HOSTS]),
        ({"HTTPS_PROXY": "http://p.example", "NO_PROXY": "*"}, None, []),
    ],
)
def test_by_variables(variables: dict[str, str], proxy: str | None, by: list[str]) -> None:
    assert network_route.network(SCOPE, Settings(), variables).http_proxy == proxy
    assert network_route.by_proxy(SCOPE, Settings(), variables) == by


def test_the_proxy_of_the_settings_is_for_where_no_variable_is() -> None:
    settings = Settings(model=ModelSettings(proxy="http://me:secret@corp.example:3128"))
    found = network_route.network(SCOPE, settings, {})
    assert found.http_proxy == "http://me:secret@corp.example:3128" and "secret" not in repr(found)
    other = network_route.network(SCOPE, settings, {"HTTPS_PROXY": "http://p.example"})
    assert other.http_proxy == "http://p.example"
    none = Settings(model=ModelSettings(proxy="none"))
    assert network_route.network(SCOPE, none, {}).http_proxy is None


def test_authorities_and_a_variable_that_is_no_proxy() -> None:
    found = network_route.network(SCOPE, Settings(), {"SSL_CERT_FILE": "/a.pem", "NODE_EXTRA_CA_CERTS": "/b.pem"})
    assert (found.ca_file, found.more_ca_file) == ("/a.pem", "/b.pem")
    with pytest.raises(Invalid) as refused:
        network_route.network(SCOPE, Settings(), {"HTTPS_PROXY": "socks5://me:hunter2@p.example"})
    assert "hunter2" not in f"{refused.value.message}{refused.value.fix}"


def test_registries_and_what_lock_files_name() -> None:
    registries = (Registry("pip", "https://pypi.example/simple"), Registry("npm", "https://npm.example:8443"))
    scope = Scope(tools=("Bash",), network=("any-packages",), registries=registries)
    found = network_route.network(
        scope,
        Settings(),
        {"HTTPS_PROXY": "http://p.example", "NO_PROXY": "npm.example"},
        packages={"pip": {"a": ["1"]}},
        file_hosts=["files.example"],
    )
    assert [(each.kind, each.address, each.by_proxy) for each in found.registries] == [
        ("pip", "https://pypi.example/simple", True),
        ("npm", "https://npm.example:8443", False),
    ]
    assert found.packages == {"pip": {"a": ["1"]}} and found.any_package and found.file_hosts == ["files.example"]
    assert found.http_proxy == "http://p.example" and found.hosts == []
