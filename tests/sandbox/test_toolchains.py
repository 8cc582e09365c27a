"""What of a start frame's toolchains becomes mounts, PATH and variables; and what is refused. Pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import frames
from sandbox.confinement import Profile, Root
from sandbox.errors import SandboxError
from sandbox.run import grants, network, prompts, toolchains
from sandbox.run.folder import RunFolder

NODE = "/home/bob/.nvm/versions/node/v22"
STATE = Path("/home/bob/.dispatch")


def given(*mounts: tuple[str, str], **more: object) -> frames.Toolchains:
    listed = [frames.ToolchainMount(path=path, at=at) for path, at in mounts]
    return frames.Toolchains(mounts=listed, **more)  # type: ignore[arg-type]  # the members by name


def profile(tools: frames.Toolchains, *, paths: tuple[str, ...] = (), program: str = "/opt/claude/claude") -> Profile:
    start = frames.Start(
        dispatch_id="1",
        attempt=1,
        sender="a@x",
        task="t",
        run_dir="/home/bob/.dispatch/runs/1",
        tools=["Bash"],
        paths=list(paths),
        protected=[str(STATE)],
        toolchains=tools,
    )
    programs = (Root(Path("/srv/venv/claude"), at=Path(program)),)
    return grants.profile(start, RunFolder(Path(start.run_dir)), programs=programs, model=False)


def test_what_a_run_gets() -> None:
    found = profile(
        given(
            (f"{NODE}/lib", f"{NODE}/lib"),
            (f"{NODE}/bin", f"{NODE}/bin"),
            ("/home/bob/.local/bin/just", "/home/bob/.local/bin/just"),
            programs=[f"{NODE}/bin", "/home/bob/.local/bin", "/home/bob/elsewhere/bin"],
            variables={"GOROOT": "/x", "LD_PRELOAD": "/x.so", "HOME": "/x"},
        )
    )
    assert [str(part.inside) for part in found.runtime[1:]] == [
        "/home/bob/.local/bin/just",
        f"{NODE}/bin",
        f"{NODE}/lib",
    ]
    variables = found.environment()
    assert variables["PATH"].startswith(f"{NODE}/bin:/home/bob/.local/bin:/usr/local/bin:")
    assert "elsewhere" not in variables["PATH"] and "LD_PRELOAD" not in variables
    assert variables["GOROOT"] == "/x" and variables["HOME"] == "/run/home/agent"
    assert variables["CARGO_HOME"].startswith("/dispatch/.cache") and found.shell_variables["UV_OFFLINE"] == "1"


def test_what_lies_in_a_granted_folder_is_seen_there_and_not_on_path() -> None:
    """The run may write there: a program that it puts there must not be one that the agent program finds."""
    place = "/home/bob/go"
    found = profile(given((f"{place}/bin", f"{place}/bin"), programs=[f"{place}/bin"]), paths=("/home/bob/go",))
    assert len(found.runtime) == 1 and place not in found.environment()["PATH"]


def test_no_folder_of_path_lies_where_a_run_may_move_what_is_around_it() -> None:
    place = "/tmp/bob/.nvm/versions/node/v22/bin"
    found = profile(given((place, place), programs=[place]))
    assert len(found.runtime) == 2 and "bob" not in found.environment()["PATH"]


@pytest.mark.parametrize(
    ("path", "at"),
    [
        ("/", "/"),
        ("/home", "/home"),
        ("/etc/shadow", "/etc/shadow"),
        ("/home/bob/x", "/etc/ld.so.cache"),
        ("/home/bob/x", "/usr/bin"),
        ("/home/bob/x", "/dispatch/in"),
        ("/home/bob/x", "/run/home/agent"),
        ("/home/bob/x", "/run/dispatch/shell"),
        ("/home/bob/x", "/proc/self"),
        ("/home/bob/../x", "/home/bob/x"),
        ("home/bob/x/y", "/home/bob/x"),
        ("/home/bob/.dispatch/lib", "/home/bob/.dispatch/lib"),
        ("/home/bob", "/home/bob"),
        ("/home/bob/x", "/opt/claude"),
        ("/opt/claude/claude", "/opt/claude/claude"),
        ("/etc/java-17-openjdk/../shadow", "/etc/java-17-openjdk/../shadow"),
    ],
)
def test_what_is_no_place_of_a_toolchain(path: str, at: str) -> None:
    with pytest.raises(SandboxError) as refused:
        profile(given((path, at)))
    assert refused.value.code == 403


def test_debians_java_reads_its_settings() -> None:
    place = "/etc/java-17-openjdk/security"
    assert [str(part.inside) for part in profile(given((place, place))).runtime[1:]] == [place]


def test_a_folder_that_would_be_two_on_path_is_left_out() -> None:
    place = "/home/bob:/project/x/bin"
    found = profile(given((place, place), programs=[place]))
    assert "/project" not in found.environment()["PATH"]


def test_the_agent_is_told_what_it_has() -> None:
    def told(tools: list[str], labels: list[str]) -> str:
        start = frames.Start(
            dispatch_id="1",
            attempt=1,
            sender="a@x",
            task="t",
            run_dir="/r",
            tools=tools,
            toolchains=given(labels=labels),
        )
        return prompts.instructions(start, [])

    assert "Programs are the system's own and, first on PATH, Python 3.12.7 (uv), node 22 (nvm)." in told(
        ["Bash"], ["Python 3.12.7 (uv)", "node 22 (nvm)"]
    )
    assert "Programs are the system's own. Use an environment" in told(["Bash"], [])
    assert "Programs" not in told(["Read"], ["Python 3.12.7 (uv)"])


def test_variables_are_those_that_toolchains_set() -> None:
    for name in {*toolchains.CACHES, *network.OFFLINE}:
        assert name.isidentifier() and not name.startswith(("LD_", "ANTHROPIC", "CLAUDE", "BASH", "NODE_OPTIONS"))
