"""Profiles as values: which paths are refused, where things are seen, and what bwrap is told. Nothing is
started here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.confinement.bubblewrap.argv import Descriptors, Host, arguments, environment_arguments
from sandbox.confinement.places import HOME, MODEL_SOCKET, WORKSPACE
from sandbox.confinement.profile import Profile, Root, View
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
        (Root(Path("/run/media")), 403),
        (Root(Path("/run/home/agent/x")), 403),
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


def test_a_folder_in_the_sandboxs_own_tmp_is_held_in_place() -> None:
    """As it is below /run/media, where disks that were plugged in lie. A shell may rename what lies in /tmp."""
    deep, shallow, disk = Path("/tmp/a/b/p"), Path("/tmp/q"), Path("/run/media/bob/disk/p")
    words = built(Profile(workspace=W, roots=(Root(deep), Root(shallow), Root(disk))))
    at = [words.index(part) for part in ("--tmpfs /tmp ", "--tmpfs /tmp/a", f" {deep}", "--remount-ro /tmp/a ")]
    assert at == sorted(at) and words.count("--tmpfs /tmp/") == 1
    assert words.index("--tmpfs /run ") < words.index(str(disk)) < words.index("--remount-ro /run ")


def test_a_toolchain_of_a_home_in_tmp_is_not_covered() -> None:
    """A home folder may lie there on a build machine. Seen to fail: what holds folders in place was mounted over it."""
    tool = Path("/tmp/home/bob/.nvm/versions/node/v22")
    words = built(Profile(workspace=W, roots=(Root(Path("/tmp/home/bob/shop")),), runtime=(Root(tool),)))
    assert words.index("--tmpfs /tmp/home") < words.index(f" {tool}") < words.index("--remount-ro /tmp/home ")


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


def built(profile: Profile) -> str:
    class Numbers(dict[Path, int]):
        def __missing__(self, path: Path) -> int:
            self[path] = 100 + len(self)
            return self[path]

    given = Descriptors(binds=Numbers(), data={Path("/run/dispatch/shell"): 50}, filters=(60, 61))
    host = Host((("usr/bin", "/bin"),), (), ("sys", "sysrq-trigger"), ("kcore",))
    return " ".join(arguments(profile, host, given))


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
        "--perms 0555 --file 50 /run/dispatch/shell",
        "--remount-ro /run --remount-ro / --add-seccomp-fd 60 --add-seccomp-fd 61 --chdir /dispatch",
    ):
        assert part in words, part
    # No source of the person's is named by its path: only descriptors, which nobody can swap.
    assert "bind /srv" not in words and str(W) not in words


def test_mounts_come_from_above_and_respect_inner_roots() -> None:
    outer, inner, deep = Path("/srv/p"), Path("/srv/p/sub"), Path("/srv/p/x/y")
    profile = Profile(workspace=W, roots=(Root(deep), Root(inner), Root(outer, True)))
    words = built(profile).split()
    places = [word for word in words if word.startswith("/srv")]
    # What lies in a folder comes after it, which would cover it.
    assert places == ["/srv/p", "/srv/p/sub", "/srv/p/x/y"]
    kinds = [words[words.index(place) - 2] for place in places]
    assert kinds == ["--bind-fd", "--ro-bind-fd", "--ro-bind-fd"]


def test_a_view_is_shown_and_its_original_is_named() -> None:
    """Seen to fail with the view's own path as what a person is shown."""
    view = View(W.parent / "views/1/merged", W.parent / "views/1/upper")
    profile = Profile(workspace=W, roots=(Root(Path("/srv/p"), True, Path("/project"), view),))
    seen = Path("/project/a/b")
    assert profile.outside(seen) == Path("/srv/p/a/b") and profile.inside(Path("/srv/p/a/b")) == seen
    assert profile.source(seen) == (view.seen, Path("a/b"))
    assert profile.inside(view.seen) is None and profile.source(Path("/etc")) is None


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
def test_environment_that_is_none(env: dict[str, str]) -> None:
    with pytest.raises(SandboxError):
        environment_arguments(env)
