"""Profiles as values: which paths are refused, where things are seen, and what bwrap is told. Nothing is
started here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.confinement.bubblewrap.argv import Descriptors, Host, arguments, environment_arguments
from sandbox.confinement.places import HOME, MODEL_SOCKET, WORKSPACE
from sandbox.confinement.profile import Profile, Root
from sandbox.confinement.protected_names import NAMES, ProtectedPath, appeared, scan
from sandbox.errors import SandboxError

W = Path("/home/bob/.dispatch/runs/1/workspace")
STATE = Path("/home/bob/.dispatch")


@pytest.mark.parametrize(
    ("root", "code"),
    [
        (Root(Path("/")), 403),
        (Root(Path("/home")), 403),
        (Root(Path("/home/bob")), 403),
        (Root(STATE), 403),
        (Root(STATE / "runs"), 403),
        (Root(Path("/usr/local/src")), 403),
        (Root(Path("/proc/self")), 403),
        (Root(Path("/run/user/1000")), 403),
        (Root(Path("/home/bob/p"), at=Path("/etc/p")), 403),
        (Root(Path("/home/bob/p"), at=WORKSPACE / "p"), 422),
        (Root(Path("/home/bob/p"), at=Path("/")), 403),
        (Root(Path("relative")), 422),
        (Root(Path("/home/bob/../alice")), 422),
        (Root(Path("/home/bob/a\0b")), 422),
    ],
)
def test_roots_that_are_refused(root: Root, code: int) -> None:
    with pytest.raises(SandboxError) as refused:
        Profile(workspace=W, roots=(root,), protected=(STATE, Path("/home/bob/.ssh")))
    assert refused.value.code == code and refused.value.message


def test_two_roots_cannot_share_a_place() -> None:
    with pytest.raises(SandboxError):
        Profile(workspace=W, roots=(Root(Path("/srv/a"), at=Path("/p")), Root(Path("/srv/b"), at=Path("/p"))))


def test_runtime_may_not_hold_a_secret() -> None:
    with pytest.raises(SandboxError):
        Profile(workspace=W, runtime=(Root(Path("/home/bob")),), protected=(STATE,))


def test_places() -> None:
    profile = Profile(
        workspace=W,
        home=Path("/home/bob/.dispatch/runs/1/home"),
        roots=(
            Root(Path("/srv/p"), True, at=Path("/project")),
            Root(Path("/srv/p/sub")),
            Root(Path("/srv/q")),
        ),
    )
    for outside, inside in (
        (W / "in/a", WORKSPACE / "in/a"),
        (Path("/home/bob/.dispatch/runs/1/home/x"), HOME / "x"),
        (Path("/srv/q"), Path("/srv/q")),
        (Path("/srv/p/code.py"), Path("/project/code.py")),
        (Path("/srv/p/sub/code.py"), Path("/srv/p/sub/code.py")),
    ):
        assert profile.inside(outside) == inside
        assert profile.outside(inside) == outside
    assert profile.inside(Path("/srv")) is None
    assert profile.outside(Path("/srv/p/code.py")) is None
    assert profile.outside(Path("/etc/passwd")) is None


names = st.text("abcdefgh", min_size=1, max_size=3)


@given(
    st.lists(st.lists(names, min_size=1, max_size=4), min_size=1, max_size=4, unique_by=tuple),
    st.lists(names, max_size=3),
)
def test_inside_and_outside_are_inverse(roots: list[list[str]], rest: list[str]) -> None:
    profile = Profile(workspace=W, roots=tuple(Root(Path("/x", *parts)) for parts in roots))
    for parts in roots:
        path = Path("/x", *parts, *rest)
        inside = profile.inside(path)
        assert inside is not None and profile.outside(inside) == path


def built(profile: Profile, found: dict[Path, tuple[ProtectedPath, ...]] | None = None) -> str:
    class Numbers(dict[Path, int]):
        def __missing__(self, path: Path) -> int:
            self[path] = 100 + len(self)
            return self[path]

    given = Descriptors(binds=Numbers(), data={Path("/run/dispatch/shell"): 50}, filters=(60, 61))
    host = Host((("usr/bin", "/bin"),), (), ("sys", "sysrq-trigger"), ("kcore",))
    return " ".join(arguments(profile, host, found or {}, given))


def test_arguments() -> None:
    words = built(
        Profile(workspace=W, roots=(Root(Path("/srv/p"), True), Root(Path("/srv/q"))), model_socket=W / "m.sock")
    )
    for part in (
        "--unshare-user --unshare-ipc --unshare-pid --unshare-uts --unshare-net --unshare-cgroup-try",
        "--disable-userns --die-with-parent --new-session --clearenv --cap-drop ALL",
        "--ro-bind /usr /usr --symlink usr/bin /bin",
        "--proc /proc --ro-bind /proc/sys /proc/sys --ro-bind /proc/sysrq-trigger /proc/sysrq-trigger",
        "--ro-bind /dev/null /proc/kcore",
        "--size 134217728 --tmpfs /dev/shm --remount-ro /dev",
        "--size 1073741824 --tmpfs /tmp",
        "--bind-fd 100 /dispatch --bind-fd 101 /srv/p --ro-bind-fd 102 /srv/q",
        f"--bind-fd 103 {MODEL_SOCKET}",
        "--perms 0555 --ro-bind-data 50 /run/dispatch/shell",
        "--remount-ro /run --remount-ro / --add-seccomp-fd 60 --add-seccomp-fd 61 --chdir /dispatch",
    ):
        assert part in words, part
    # No source of the person's is named by its path: only descriptors, which nobody can swap.
    assert "bind /srv" not in words and str(W) not in words


def test_mounts_come_from_above_and_respect_inner_roots() -> None:
    outer, inner, deep = Path("/srv/p"), Path("/srv/p/sub"), Path("/srv/p/x/y")
    pins = [
        ProtectedPath(Path(".git")),
        ProtectedPath(Path("sub"), True),
        ProtectedPath(Path("sub/.git")),
        ProtectedPath(Path("x"), True),
    ]
    pins += [
        ProtectedPath(Path("x/.git")),
        ProtectedPath(Path("x/y"), True),
        ProtectedPath(Path("x/y/.git")),
        ProtectedPath(Path("x/z"), True),
    ]
    profile = Profile(workspace=W, roots=(Root(deep), Root(inner), Root(outer, True)))
    words = built(profile, {outer: tuple(pins)}).split()
    places = [word for word in words if word.startswith("/srv")]
    # A folder held because of the repository below it comes before the read-only root in it, which it would cover.
    assert places == [f"/srv/p{rest}" for rest in ("", "/.git", "/sub", "/x", "/x/.git", "/x/y", "/x/z")]
    kinds = {place: words[words.index(place) - 2] for place in places}
    writable = {place for place, kind in kinds.items() if kind == "--bind-fd"}
    assert writable == {"/srv/p", "/srv/p/x", "/srv/p/x/z"}
    read_only = built(Profile(workspace=W, roots=(Root(outer),)), {outer: tuple(pins)})
    assert "/srv/p/.git" not in read_only


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
def test_environment_that_is_none(env: dict[str, str]) -> None:
    with pytest.raises(SandboxError):
        environment_arguments(env)


def test_scan_finds_every_protected_name(tmp_path: Path) -> None:
    for name in sorted(NAMES):
        (tmp_path / "a/b").mkdir(parents=True, exist_ok=True)
        (tmp_path / "a/b" / name.upper()).touch()
    (tmp_path / "plain").mkdir()
    found = scan(tmp_path)
    assert {pin.path.name for pin in found if not pin.writable} == {name.upper() for name in NAMES}
    assert {pin.path for pin in found if pin.writable} == {Path("a"), Path("a/b")}
    (tmp_path / "plain/.git").mkdir()
    assert appeared(tmp_path, found) == (Path("plain/.git"),)


def test_instructions_that_are_links_are_kept_as_they_are(tmp_path: Path) -> None:
    """Seen to fail with every link refused, which so many projects have, and with its target left writable."""
    for folder in ("docs", ".claude", "sub"):
        (tmp_path / folder).mkdir()
    for file in ("docs/agents.txt", ".claude/CLAUDE.md", "CLAUDE.md"):
        (tmp_path / file).touch()
    for link, target in (
        ("AGENTS.md", "CLAUDE.md"),
        ("GEMINI.md", "docs/agents.txt"),
        ("CLAUDE.local.md", ".claude/CLAUDE.md"),
        ("sub/AGENTS.md", "../docs/agents.txt"),
        (".cursorrules", "/elsewhere/rules"),
    ):
        (tmp_path / link).symlink_to(target)
    found = scan(tmp_path)
    mounted = {str(pin.path): pin.writable for pin in found if not pin.link}
    assert mounted == {".claude": False, "CLAUDE.md": False, "docs/agents.txt": False, "docs": True, "sub": True}
    assert {str(pin.path) for pin in found if pin.link} == {
        "AGENTS.md",
        "GEMINI.md",
        "CLAUDE.local.md",
        "sub/AGENTS.md",
        ".cursorrules",
    }
    assert appeared(tmp_path, found) == ()
    (tmp_path / "AGENTS.md").unlink()
    (tmp_path / "AGENTS.md").symlink_to("docs/mine")
    (tmp_path / "sub/AGENTS.md").unlink()
    (tmp_path / "sub/AGENTS.md").touch()
    (tmp_path / "docs/.vscode").symlink_to("elsewhere")
    assert {str(path) for path in appeared(tmp_path, found)} == {"AGENTS.md", "sub/AGENTS.md", "docs/.vscode"}


@pytest.mark.parametrize("target", ["missing", "folder", "through/file"])
def test_instructions_that_lead_nowhere_firm_are_refused(tmp_path: Path, target: str) -> None:
    """Seen to fail with the target not looked at: a run could make it, or lead the way to it elsewhere."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    (tmp_path / "through").symlink_to("folder")
    (tmp_path / "AGENTS.md").symlink_to(target)
    with pytest.raises(SandboxError) as refused:
        scan(tmp_path)
    assert refused.value.code == 403 and "AGENTS.md" in refused.value.message and refused.value.fix


def test_what_tools_install_takes_no_pins(tmp_path: Path) -> None:
    """Seen to fail with every name protected there: a large project would hold too many."""
    package = tmp_path / "node_modules/package"
    for folder in (".git", ".vscode"):
        (package / folder).mkdir(parents=True)
    for file in ("AGENTS.md", ".npmrc", ".envrc"):
        (package / file).touch()
    assert {pin.path.name for pin in scan(tmp_path) if not pin.writable} == {".git", ".vscode"}


def test_scan_is_bounded(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}/.git").mkdir(parents=True)
    allowed: list[dict[str, Any]] = [{"max_entries": 20}, {"max_protected": 20}]
    for bounds in allowed:
        with pytest.raises(SandboxError) as refused:
            scan(tmp_path, **bounds)
        assert refused.value.code == 413 and "narrower" in refused.value.fix
