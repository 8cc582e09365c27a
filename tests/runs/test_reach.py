"""What a person is told of the network before an accept: the hosts, and credentials that are found in the folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from peer.machine.settings import ModelSettings, Settings
from peer.runs import reach
from peer.trust import grants, scopes
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
    assert only.startswith("its commands can reach a.example, b.example: they can send there whatever the run can read")


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
    assert as_you == "it can act there as you, with the secrets in .env, .git/config"
    for number in range(6):
        (tmp_path / f"z{number}").write_text(TOKEN)
    _, as_you = reach.sentences(granted("a.example"), tmp_path, Settings())
    assert as_you.endswith("z0, z1, z2, z3 and 3 more")


def test_a_proxy_that_looks_names_up_is_said(tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(proxy="http://corp.example:3128"))
    _, proxied = reach.sentences(granted("a.example"), tmp_path, settings)
    assert proxied == "this machine's HTTP proxy resolves a.example, so such a name may lead into your own network"


def test_a_proxy_that_looks_registries_up_is_said(tmp_path: Path) -> None:
    """What they say of files, and where they redirect to, it looks up as well."""
    (tmp_path / "requirements.txt").write_text("a==1\n")
    settings = Settings(model=ModelSettings(proxy="http://corp.example:3128"))
    _, proxied = reach.sentences(granted("packages"), tmp_path, settings)
    assert proxied == (
        "this machine's HTTP proxy resolves pypi.example, npm.example and the hosts that these name for packages, so "
        "such a name may lead into your own network"
    )


def test_no_host_is_cut_off(tmp_path: Path) -> None:
    """A question of an agent's session shows 500 characters of each sentence."""
    hosts = [f"{'a' * 60}.{'b' * 60}.{'c' * 60}.h{number:02}.example" for number in range(scopes.MAX_HOSTS)]
    said = reach.sentences(granted(",".join(hosts)), tmp_path, Settings())
    assert all(any(host in sentence[:499] for sentence in said) for host in hosts)
    assert "send there whatever the run can read" in said[0][:499]


def test_names_in_a_project_end_no_line_and_are_text(tmp_path: Path) -> None:
    evil = tmp_path / os.fsdecode(b"a\n\x1b[2J\xff")
    evil.mkdir()
    (evil / "uv.lock").write_text("broken")
    (evil / "requirements.txt").write_text("a==1\n")
    (evil / ".env").write_text(TOKEN)
    said = reach.sentences(granted("packages,a.example"), tmp_path, Settings())
    assert all(sentence.isprintable() for sentence in said) and msgspec.json.encode(said)
    assert any("requirements.txt" in sentence and "uv.lock" in sentence for sentence in said)
    for number in range(20):
        (tmp_path / f"b{number}").mkdir()
        (tmp_path / f"b{number}/requirements.txt").write_text("a==1\n")
    (packages, *_) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert "and 16 more" in packages


def test_registries_that_a_project_names_are_said_and_opened_by_nothing(tmp_path: Path) -> None:
    (tmp_path / ".npmrc").write_text("registry=https://corp.example/npm\n@x:registry=http://10.0.0.1/\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/.npmrc").write_text("registry=https://corp.example/npm\n")
    (tmp_path / "requirements.txt").write_text("--extra-index-url https://pypi.example/simple\na==1\n")
    _, *said = reach.sentences(granted("packages"), tmp_path, Settings())
    assert said == [
        "the project names registries that this edge does not grant: corp.example (.npmrc and 1 more); nothing is "
        "fetched there unless you grant each by its name (--network)",
        "the project names registries that no run can reach: 10.0.0.1",
    ]
    with_it = reach.sentences(granted("corp.example,packages"), tmp_path, Settings())
    assert not any("does not grant" in sentence for sentence in with_it)
    assert reach.sentences(granted("none"), tmp_path, Settings()) == []


def test_the_hosts_of_files_that_lock_files_name_are_said(tmp_path: Path) -> None:
    addresses = [f"https://{host}/a.whl" for host in ("files.example", "me:secret@evil.example", "pypi.example")]
    wheels = ", ".join(f'{{ url = "{address}", hash = "x" }}' for address in addresses)
    (tmp_path / "uv.lock").write_text(f'[[package]]\nname = "a"\nversion = "1"\nwheels = [{wheels}]\n')
    _, said = reach.sentences(granted("packages"), tmp_path, Settings())
    assert said == (
        "its lock files say that packages are kept at files.example, evil.example: from there a run gets only what a "
        "granted registry lists"
    )


def test_no_registry_is_cut_off(tmp_path: Path) -> None:
    hosts = [f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 50}.h{number:02}.example" for number in range(9)]
    folder = tmp_path / ("f" * 100)
    folder.mkdir()
    (folder / ".npmrc").write_text("".join(f"registry=https://{host}\n" for host in hosts))
    said = reach.sentences(granted("packages"), tmp_path, Settings())
    assert all(any(host in sentence[:499] for sentence in said) for host in hosts)
    assert all(len(sentence) < 500 and "--network" in sentence for sentence in said[1:])


def test_only_packages_with_a_registry_are_counted(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\nb==2\n")
    (tmp_path / "go.sum").write_text("a.example/b v1.0.0 h1:x\n")
    (said,) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert "2 packages, as named in" in said


def test_looking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (tmp_path / f"f{number}").write_text(TOKEN)
    monkeypatch.setattr(reach, "_LOOKED_AT", 50)
    assert len(reach.credentials(tmp_path)) == 50


def test_packages_are_counted_by_the_lock_files_that_name_them(tmp_path: Path) -> None:
    (none,) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert none == "no packages are fetched for it, because there is no lock file"
    (tmp_path / "requirements.txt").write_text("a==1\nb==2\n")
    (tmp_path / "package-lock.json").write_text("{broken")
    (some,) = reach.sentences(granted("packages"), tmp_path, Settings())
    assert some == (
        "packages are fetched for it (pip, npm): 2 packages, as named in requirements.txt; "
        "package-lock.json cannot be read"
    )
    any_package, host, *_ = reach.sentences(granted("any-packages,a.example"), tmp_path, Settings())
    assert any_package.startswith("it may fetch any package (pip, npm)") and "a.example" in host
