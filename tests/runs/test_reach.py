"""What a person is told of the network before an accept: the hosts, and credentials that are found in the folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from peer.machine.settings import ModelSettings, Settings
from peer.runs import reach
from peer.trust import grants
from peer.trust.scopes import Registry, Scope

TOKEN = "ghp_" + "a1B2" * 9


def granted(network: str) -> Scope:
    scope = grants.grant(grants.ScopeInput(tools="Bash", network=network), installed=(), now=0)
    registries = (Registry("pip", "https://pypi.example/simple"), Registry("npm", "https://npm.example"))
    return msgspec.structs.replace(scope, registries=registries if "packages" in network else ())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_the_hosts_and_what_leaves_to_them(tmp_path: Path) -> None:
    (only,) = reach.sentences(granted("a.example,b.example"), tmp_path, Settings())
    assert only.startswith("its commands reach a.example, b.example: whatever a run can read can leave to there")


def test_credentials_in_the_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text(f"[remote]\n\turl = https://me:{TOKEN}@git.example.org/x\n")
    (tmp_path / ".env").write_text("DB_PASSWORD=correct-horse-9\n")
    (tmp_path / "code.py").write_text("password = ask()\n")
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/.env").write_text("DB_PASSWORD=correct-horse-9\n")  # too far down to be looked at
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / ".env")
    assert reach.credentials(tmp_path) == [".env", ".git/config"]
    _, as_you = reach.sentences(granted("a.example"), tmp_path, Settings())
    assert as_you == "it can act there as you, with what is in .env, .git/config"
    for number in range(6):
        (tmp_path / f"z{number}").write_text(TOKEN)
    _, as_you = reach.sentences(granted("a.example"), tmp_path, Settings())
    assert as_you.endswith("z0, z1, z2, z3 and 3 more")


def test_a_proxy_that_looks_names_up_is_said(tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(proxy="http://corp.example:3128"))
    _, proxied = reach.sentences(granted("a.example"), tmp_path, settings)
    assert proxied == "the HTTP proxy of this machine looks up a.example, so it may lead into your own network"


def test_looking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (tmp_path / f"f{number}").write_text(TOKEN)
    monkeypatch.setattr(reach, "_LOOKED_AT", 50)
    assert len(reach.credentials(tmp_path)) == 50


def test_packages_are_counted_by_the_lock_files_that_name_them(tmp_path: Path) -> None:
    (none,) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert none == "no package is fetched for it, since no lock file is there"
    (tmp_path / "requirements.txt").write_text("a==1\nb==2\n")
    (tmp_path / "package-lock.json").write_text("{broken")
    (some,) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert some == (
        "packages are fetched for it (pip, npm): 2 packages, by requirements.txt; package-lock.json cannot be read"
    )
    any_package, host, *_ = reach.sentences(granted("any-packages,a.example"), tmp_path, Settings())
    assert any_package.startswith("it may have any package fetched (pip, npm)") and "a.example" in host
