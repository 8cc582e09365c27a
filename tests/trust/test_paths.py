"""Folders that may be granted: every refusal with its reason, on made-up facts and on a real disk."""

import os
import pwd
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import DispatchError, Forbidden, Invalid
from peer.trust import filesystem, paths, scopes
from peer.trust.filesystem import LocalFacts
from peer.trust.paths import Kind

PRIVATE = (
    ".codex",
    ".cursor",
    ".gemini",
    ".local/bin",
    ".local/lib/python3.11/site-packages",
    ".config/autostart",
    ".config/systemd/user",
    ".kube",
    ".docker",
    ".netrc",
    ".cargo/bin",
    ".nvm/versions",
    ".oh-my-zsh/custom",
    ".vscode/extensions",
    ".a-program-of-tomorrow",
    "bin",
    "go/bin",
    "Library/LaunchAgents",
)
"""Places of a home that no grant may reach."""


class MadeUp:
    """A machine where everything is a folder unless said otherwise."""

    homes: tuple[str, ...] = ("/home/bob", "/data/homes/bob")
    states = ("/home/bob/.dispatch", "/srv/state")
    others = ("/home/eve", "/srv/accounts/carl")
    settings = ("/srv/settings/codex",)

    def __init__(self, **kinds: Kind) -> None:
        self.kinds = kinds
        self.sockets: dict[str, str] = {}

    def real(self, path: str) -> str:
        return path

    def links(self, path: str) -> tuple[str, ...]:
        return ()

    def kind(self, path: str) -> Kind:
        return self.kinds.get(path, "folder")

    def socket_below(self, path: str) -> str | None:
        return self.sockets.get(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/home/bob", "whole home folder"),
        ("/home/bob/", "whole home folder"),
        ("//home//bob/.", "whole home folder"),
        ("/data/homes/bob", "whole home folder"),
        ("/home", "covers the"),
        ("/data/homes", "covers the home folder"),
        ("/", "covers the"),
        ("/home/bob/.dispatch", "state folder"),
        ("/home/bob/.dispatch/runs/1", "inside the state folder"),
        ("/srv/state/x", "inside the state folder"),
        ("/srv", "covers the state folder"),
        ("/home/bob/.ssh", "keys"),
        ("/home/bob/.ssh/sub", "keys"),
        ("/data/homes/bob/.gnupg", "keys"),
        ("/home/bob/.config/app", "settings"),
        ("/home/bob/.local/share", "keys"),
        *((f"/home/bob/{place}", "programs") for place in PRIVATE),
        ("/home/eve", "home folder"),
        ("/srv/accounts", "covers a home folder"),
        ("/home/eve/.bashrc.d", "programs"),
        ("/srv/accounts/carl/bin", "programs"),
        ("/srv/settings/codex", "programs"),
        ("/srv/settings/codex/sessions", "programs"),
        ("/srv/settings", "programs"),
        ("/home/bob/go", "programs"),
        ("/etc", "system"),
        ("/etc/ssl", "system"),
        ("/usr/local/src", "system"),
        ("/proc/self", "system"),
        ("/var/run/x", "system"),
        ("/dev/shm/x", "system"),
        ("/run/user/1000/x", "system"),
        ("/run/media", "disk"),
        ("/run/media/bob", "disk"),
        ("/run/mediation/bob/disk/x", "system"),
        ("/dispatch", "where a run has its own"),
        ("/dispatch/shop", "where a run has its own"),
        ("/opt/claude/x", "where a run has its own"),
        ("/tmp", "shared"),
        ("/var", "shared"),
        ("/root", "shared"),
        ("home/bob/x", "not an absolute path"),
        ("", "not an absolute path"),
        ("~/x", "not an absolute path"),
        ("/home/bob/../eve", "contains `"),
        ("/home/bob/..", "contains `"),
        ("/home/bob/a\nb", "invisible characters"),
        ("/home/bob/a\x00b", "invisible characters"),
        ("/home/bob/\u202eb", "invisible characters"),
        ("/" + "a" * 4096, "not an absolute path"),
    ],
)
def test_places_that_are_never_granted(path: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        paths.check_roots([path], MadeUp())
    assert reason in refused.value.message and refused.value.fix and refused.value.message.isprintable()
    assert refused.value.code == 422


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "symbolic link"),
        ("missing", "does not exist"),
        ("file", "not a folder but a file"),
        ("socket", "not a folder but a socket"),
        ("device", "not a folder but a device"),
        ("unreadable", "cannot be read"),
    ],
)
@pytest.mark.parametrize("component", ["/home/bob/work", "/home/bob/work/shop", "/home"])
def test_every_component_is_a_real_folder(kind: Kind, reason: str, component: str) -> None:
    with pytest.raises(Invalid) as refused:
        paths.check_roots(["/home/bob/work/shop"], MadeUp(**{component: kind}))
    assert reason in refused.value.message and refused.value.fix
    _, _, why = refused.value.message.partition("cannot be granted")
    assert (component in why) is (component != "/home/bob/work/shop")


def test_a_socket_inside_is_named() -> None:
    facts = MadeUp()
    facts.sockets["/home/bob/shop"] = "/home/bob/shop/run/db.sock"
    with pytest.raises(Invalid) as refused:
        paths.check_roots(["/home/bob/shop"], facts)
    assert "/home/bob/shop/run/db.sock" in refused.value.message


def test_a_disk_that_was_plugged_in_holds_projects() -> None:
    assert paths.check_roots(["/run/media/bob/disk/shop"], MadeUp()) == ("/run/media/bob/disk/shop",)


def test_what_may_be_granted_comes_back_canonical_and_once() -> None:
    given_paths = ["/home/bob/shop/", "/home//bob/./shop", "/tmp/x", "/srv/sites", "/opt/work", "/home/bobby"]
    given_paths += ["/home/bob/shop/.hidden", "/home/bob/go/src", "/home/bob/binary", "/home/eve/shared"]
    assert paths.check_roots(given_paths, MadeUp()) == (
        "/home/bob/shop", "/tmp/x", "/srv/sites", "/opt/work", "/home/bobby", "/home/bob/shop/.hidden",
        "/home/bob/go/src", "/home/bob/binary", "/home/eve/shared",
    )  # fmt: skip
    assert paths.check_roots([], MadeUp()) == ()


def test_a_home_below_a_system_folder_is_still_ones_own() -> None:
    facts = MadeUp()
    facts.homes = ("/var/lib/ci", "/var/lib/other")
    assert paths.check_roots(["/var/lib/ci/shop"], facts) == ("/var/lib/ci/shop",)
    for other in ("/var/lib/other", "/var/lib", "/var/lib/ci"):
        with pytest.raises(Invalid):
            paths.check_roots([other], facts)
    facts.homes = ("/home/bob", "/var/lib/ci")
    assert paths.check_roots(["/var/lib/ci/shop"], facts) == ("/var/lib/ci/shop",)
    facts.homes = ("/",)  # of an account without a home of its own: the system is not its own
    with pytest.raises(Invalid):
        paths.check_roots(["/etc/ssl"], facts)


def test_too_many_folders() -> None:
    with pytest.raises(Invalid):
        paths.check_roots([f"/home/bob/{n}" for n in range(33)], MadeUp())
    most = tuple(f"/home/bob/{n}" for n in range(32))
    assert paths.check_roots([*most, most[0]], MadeUp()) == most
    longest = "/home/bob/".ljust(scopes.MAX_PATH, "x")
    assert paths.check_roots([longest], MadeUp()) == (longest,)


@given(st.text(st.sampled_from("/.ab\n") | st.characters(), max_size=20).map("/home/bob/w".__add__) | st.text())
def test_only_our_errors_come_out_and_what_comes_back_is_canonical(path: str) -> None:
    try:
        (root,) = paths.check_roots([path], MadeUp())
    except DispatchError as refused:
        assert refused.code == 422 and refused.message.isprintable()
    else:
        assert root == os.path.normpath(root) and root.startswith("/") and not root.startswith("//")
        assert paths.check_roots([root], MadeUp()) == (root,)


def test_the_working_folder_is_inside_the_edges_folders() -> None:
    assert paths.allowed_cwd((), "/anywhere")
    assert paths.allowed_cwd(("/srv/a",), "/srv/a") and paths.allowed_cwd(("/srv/a",), "/srv/a/b")
    assert not paths.allowed_cwd(("/srv/a",), "/srv/ab") and not paths.allowed_cwd(("/srv/a",), "/srv")
    assert paths.check_cwd(("/home/bob/a",), "/home/bob/a//b/", MadeUp()) == "/home/bob/a/b"
    with pytest.raises(Forbidden) as refused:
        paths.check_cwd(("/home/bob/a",), "/home/bob/b", MadeUp())
    assert refused.value.code == 403 and "/home/bob/a" in refused.value.fix
    for bad in ("/home/bob", "/home/bob/a/../b"):
        with pytest.raises(Invalid):
            paths.check_cwd((), bad, MadeUp())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for folder in ("home/.dispatch", "home/shop/src", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (home / "file").write_text("x")
    (home / "link").symlink_to(home / "shop")
    (home / "loop").symlink_to(home / "loop")
    os.mkfifo(home / "pipe")
    return tmp_path


def refusal(path: Path, disk: Path) -> str:
    with pytest.raises(Invalid) as refused:
        paths.check_roots([str(path)], LocalFacts(home=disk / "home", states=[disk / "home/.dispatch"]))
    return refused.value.message


def test_a_real_disk(disk: Path) -> None:
    home = disk / "home"
    facts = LocalFacts(home=home, states=[home / ".dispatch"])
    assert paths.check_roots([f"{home}/shop", f"{disk}/elsewhere"], facts) == (f"{home}/shop", f"{disk}/elsewhere")
    assert "whole home" in refusal(home, disk)
    assert "covers the" in refusal(disk, disk)
    assert "state folder" in refusal(home / ".dispatch", disk)
    assert "symbolic link" in refusal(home / "loop", disk)
    assert "not a folder but a file" in refusal(home / "file", disk)
    assert "not a folder but a file" in refusal(home / "file" / "x", disk)
    assert "device or pipe" in refusal(home / "pipe", disk)
    assert "does not exist" in refusal(home / "none", disk)


def test_links_are_followed_once_and_the_real_folder_is_judged(disk: Path) -> None:
    home = disk / "home"
    facts = LocalFacts(home=home, states=[home / ".dispatch"])
    for name, target in {
        "far": disk / "elsewhere",
        "to-state": home / ".dispatch",
        "up": disk,
        "etc": Path("/etc"),
    }.items():
        (home / name).symlink_to(target)
    (home / "gone").symlink_to(home / "none")
    given_paths = [f"{home}/link", f"{home}/link/src", f"{home}/far", f"{home}/shop"]
    assert paths.check_roots(given_paths, facts) == (f"{home}/shop", f"{home}/shop/src", f"{disk}/elsewhere")
    assert "state folder" in refusal(home / "to-state", disk)
    assert "covers the" in refusal(home / "up", disk)
    assert "belongs to the system" in refusal(home / "etc", disk)
    assert "does not exist" in refusal(home / "gone", disk)
    assert "whole home" in refusal(home / "up/home", disk)


def test_a_working_folder_behind_a_link_is_compared_with_the_real_folders(disk: Path) -> None:
    home = disk / "home"
    facts = LocalFacts(home=home, states=[home / ".dispatch"])
    assert paths.check_cwd([f"{home}/shop"], f"{home}/link/src", facts) == f"{home}/shop/src"
    (home / "shop/out").symlink_to(disk / "elsewhere")
    # A run may have made this one.
    for allowed in ([f"{home}/shop"], [f"{home}/shop", f"{disk}/elsewhere"]):
        with pytest.raises(Invalid, match="symbolic link"):
            paths.check_cwd(allowed, f"{home}/shop/out", facts)
        # Also where another link, of the person's own, leads to it. Seen to fail with a look at the names alone.
        with pytest.raises(Invalid, match="symbolic link"):
            paths.check_cwd(allowed, f"{home}/link/out", facts)
    (home / "far").symlink_to(disk / "elsewhere")
    with pytest.raises(Forbidden, match="elsewhere"):
        paths.check_cwd([f"{home}/shop"], f"{home}/far", facts)


def test_links_that_a_path_leads_through_have_their_real_places(disk: Path) -> None:
    """Each of a chain, relative and absolute, those behind others, and as many of a loop as the kernel would follow."""
    home = disk / "home"
    facts = LocalFacts(home=home, states=[home / ".dispatch"])
    assert facts.links(f"{home}/shop/src") == ()
    (home / "shop/next").symlink_to("../../elsewhere/on")
    (disk / "elsewhere/on").symlink_to(home / "link")
    chain = (f"{home}/link", f"{home}/shop/next", f"{disk}/elsewhere/on", f"{home}/link")
    assert facts.links(f"{home}/link/next/src") == chain
    assert os.path.realpath(f"{home}/link/next/src") == f"{home}/shop/src"
    assert set(facts.links(f"{home}/loop/x")) == {f"{home}/loop"}
    assert facts.links(f"{home}/none/at/all") == ()


def test_whose_links_may_be_a_runs(disk: Path) -> None:
    """All but those in the home folder itself or above it, by whichever name the home has."""
    home = disk / "home"
    (disk / "also").symlink_to(home)
    (disk / "elsewhere/link").symlink_to(home / "shop")
    (home / "shop/next").symlink_to(disk / "elsewhere")
    for named in (home, disk / "also"):
        facts = LocalFacts(home=named, states=[home / ".dispatch"])
        assert paths.foreign_link(f"{disk}/also/link/src", facts) is None
        assert paths.foreign_link(f"{home}/link/next/link", facts) == f"{home}/shop/next"
        assert paths.foreign_link(f"{disk}/elsewhere/link", facts) == f"{disk}/elsewhere/link"


def test_a_real_socket(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk / "home/shop/src")  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        assert "src/s" in refusal(disk / "home/shop", disk)
        assert "not a folder but a socket" in refusal(disk / "home/shop/src/s", disk)


def test_a_home_reached_by_a_link_is_known_by_both_names(disk: Path) -> None:
    (disk / "also").symlink_to(disk / "home")
    facts = LocalFacts(home=disk / "also", states=[disk / "also/.dispatch"])
    with pytest.raises(Invalid) as refused:
        paths.check_roots([str(disk / "home")], facts)
    assert "home folder" in refused.value.message or "state folder" in refused.value.message
    with pytest.raises(Invalid):
        paths.check_roots([str(disk / "home/.dispatch")], facts)


def test_what_variables_name_and_other_peoples_homes(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with the usual places alone: a run could plant servers in the file that they are read from."""
    home = disk / "home"
    eve, service = disk / "eve", disk / "service"
    for folder in (home / "codex", eve / "project", service):
        folder.mkdir(parents=True)
    accounts = [("eve", 1001, eve), ("games", 5, service), ("nobody", 65534, "/"), ("bob", 1000, home)]
    entries = [pwd.struct_passwd((name, "x", uid, uid, "", str(at), "/bin/sh")) for name, uid, at in accounts]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    env = {"CODEX_HOME": str(home / "codex"), "ZDOTDIR": str(home), "CLAUDE_CONFIG_DIR": "relative"}
    facts = LocalFacts(home=home, states=[home / ".dispatch"], env=env)
    assert facts.others == (str(eve),) and facts.settings == (str(home / "codex"),)
    for refused in (home / "codex", eve):
        with pytest.raises(Invalid):
            paths.check_roots([str(refused)], facts)
    granted = (str(home / "shop"), str(eve / "project"), str(service))
    assert paths.check_roots(granted, facts) == granted


def test_the_search_for_sockets_gives_up(disk: Path) -> None:
    ticks = iter([0.0, 2.0, 2.1])
    facts = LocalFacts(home=disk / "home", states=[disk / "s"], clock=lambda: next(ticks))
    assert facts.socket_below(str(disk / "home")) is None
    assert next(ticks, "used up") == "used up"


@pytest.mark.parametrize(("most", "found"), [(3, True), (2, False)])
def test_the_search_for_sockets_looks_at_so_many_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, found: bool
) -> None:
    monkeypatch.setattr(filesystem, "_MAX_ENTRIES", most)
    (tmp_path / "one/two").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one/two")
    facts = LocalFacts(home=tmp_path, states=[tmp_path / "s"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        assert (facts.socket_below(str(tmp_path)) is not None) is found


def test_the_search_for_sockets_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a pipe nor a link to a socket is one, and a link to a folder is no way in."""
    place, outside = tmp_path / "place", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (place / "loop").symlink_to(place)
    (place / "way").symlink_to(outside)
    (place / "link").symlink_to(outside / "s")
    os.mkfifo(place / "pipe")
    monkeypatch.chdir(outside)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        assert LocalFacts(home=tmp_path, states=[tmp_path / "s"]).socket_below(str(place)) is None


def test_the_search_for_sockets_goes_on_after_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    real = os.scandir

    def scandir(path: str) -> Any:
        if path != str(tmp_path) and not refused:
            refused.append(path)
            raise PermissionError(13, "Permission denied")
        return real(path)

    with ExitStack() as sockets:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            sockets.enter_context(socket.socket(socket.AF_UNIX)).bind("s")
        monkeypatch.setattr(os, "scandir", scandir)
        found = LocalFacts(home=tmp_path, states=[tmp_path / "s"]).socket_below(str(tmp_path))
    assert found is not None and Path(found).parent != Path(refused[0])
