"""What a confined process can and cannot do, by real processes: first as the agent program, then as one
of its shells.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import trio

from sandbox.confinement import Excess, Limits, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.confinement.places import SHELL_LAUNCHER, WORKSPACE
from sandbox.errors import SandboxError
from tests.conftest import HANG
from tests.sandbox.conftest import KILLED, Person, each, finish, run, seen, shell

PLACES = ("agent", "shell")


@pytest.mark.parametrize("place", PLACES)
async def test_it_works_where_it_may(person: Person, place: str) -> None:
    attempts = [
        f"cat {person.reading}/notes.txt && cat {person.project}/code.py",
        f"echo changed > {person.project}/new.txt",
        "pwd && echo result > out.txt && id -un && git --version && python3 -c 'print(6*7)'",
    ]
    profile = person.profile
    for command, status, said in await each(place, profile, attempts):
        assert status == 0, (command, said)
    assert str(WORKSPACE) in said and "agent" in said and "42" in said
    assert (seen(profile) / "new.txt").read_text() == "changed\n"
    assert not (person.project / "new.txt").exists()
    assert (person.workspace / "out.txt").read_text() == "result\n"


@pytest.mark.parametrize("place", PLACES)
async def test_secrets_cannot_be_read(person: Person, place: str) -> None:
    secrets = [
        person.state / "device.key",
        person.ssh / "id_ed25519",
        Path("/etc/shadow"),
        Path.home() / ".bashrc",
    ]
    for secret in secrets[:2]:
        assert "secret" in secret.read_text()  # reachable from outside, so that the refusals below mean something
    attempts = [f"cat '{path}{secret}'" for secret in secrets for path in ("", "/proc/1/root", "/proc/self/root")]
    for command, status, said in await each(place, person.profile, attempts):
        assert status != 0 and "device secret" not in said and "ssh secret" not in said, command
    found = await each(place, person.profile, [f"ls -A '{person.base}/home'", f"ls -AR '{person.base}/home/.dispatch'"])
    # The folder above granted roots exists inside as an empty shell of a name.
    assert found[0][2].split() == ["project", "reading"] and found[1][1] != 0


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_outside_can_be_written(person: Person, place: str) -> None:
    places = [person.reading, person.base, person.base / "home", person.state]
    places += [Path(name) for name in ("/", "/usr", "/etc", "/run", "/dev", "/var", "/proc/sys/kernel", "/proc")]
    attempts = [f"echo x > '{target}/planted'" for target in places]
    attempts += [
        f"echo x >> {person.reading}/notes.txt",
        f"rm {person.reading}/notes.txt",
        f"mv {person.reading} /tmp",
    ]
    for command, status, _ in await each(place, person.profile, attempts):
        assert status != 0, command
    assert (person.reading / "notes.txt").read_text() == "notes\n"
    assert not list(person.base.rglob("planted"))


@pytest.mark.parametrize("place", PLACES)
async def test_no_connection_can_be_opened(person: Person, place: str) -> None:
    with (
        socket.socket(socket.AF_INET) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        tcp.bind(("127.0.0.1", 0))
        abstract.bind(f"\0dispatch-test-{os.getpid()}")
        named.bind(str(person.base / "s"))
        attempts = []
        for listening, family in ((tcp, "AF_INET"), (abstract, "AF_UNIX"), (named, "AF_UNIX")):
            listening.listen()
            address = listening.getsockname()
            with socket.socket(listening.family) as control:
                control.settimeout(2)
                control.connect(address)
            attempts.append(f"socket.socket(socket.{family}).connect({address!r})")
        attempts.append("socket.create_connection(('1.1.1.1', 443), 2)")
        attempts.append("socket.getaddrinfo('example.com', 443)")
        commands = [f'python3 -c "import socket; {attempt}"' for attempt in attempts]
        for command, status, said in await each(place, person.profile, commands):
            assert status != 0 and "rror" in said, (command, said)


async def test_environment_is_exactly_what_was_given(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCH_SECRET", "of the daemon")
    done = await run(person.profile, ["/usr/bin/env"], {"EXTRA": "1\n2"})
    found = {line.split("=")[0] for line in done.out.splitlines() if "=" in line}
    assert found == {*person.profile.environment(), "EXTRA", "PWD"}
    done = await run(person.profile, ["/bin/cat", "/proc/1/environ", "/proc/1/cmdline"])
    assert done.code == 0 and "SECRET" not in done.out and str(person.state) not in done.out
    with pytest.raises(SandboxError):
        await run(person.profile, ["/usr/bin/env"], {"A=B": "1"})


async def test_no_descriptor_arrives(person: Person) -> None:
    with (person.state / "device.key").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        done = await run(person.profile, ["/bin/ls", "/proc/self/fd"])
    assert done.out.split() == ["0", "1", "2", "3"]  # 3 is ls's own


async def test_limits_hold(person: Person) -> None:
    limits = Limits(file_size=1024, tmp_size=64 * 1024, processes=64, open_files=256)
    done = await shell(
        person.profile,
        "ulimit -c -n; head -c 4096 /dev/zero > big; stat -c %s big; df --output=size -k /tmp | tail -1;ulimit -n 9999",
        limits=limits,
    )
    assert "256" in done.out.split() and "1024" in done.out.split() and "64" in done.out.split()
    assert done.code != 0  # limits cannot be raised again
    if os.geteuid() != 0:  # the kernel does not bound processes of host uid 0
        done = await run(
            person.profile,
            ["/bin/bash", "-c", "for i in $(seq 200); do sleep 5 & done; echo all"],
            limits=limits,
        )
        assert "fork" in done.err and "Resource temporarily unavailable" in done.err


async def test_shell_cannot_touch_the_agent(person: Person) -> None:
    (person.workspace.parent / "home").mkdir()
    profile = replace(person.profile, home=person.workspace.parent / "home")
    # The agent's place: a process with an environment, open pipes and a home, that starts a shell.
    # Found by its command line: its process id is somebody else's in another namespace.
    attack = (
        "agent=none; for one in /proc/[0-9]*; do [ $one = /proc/$$ ] || "
        "! grep -q mine.to.give $one/cmdline || agent=${one#/proc/}; done;"
        "for what in environ mem maps fd/0 cwd/code.py root/etc/passwd; do"
        " cat /proc/$agent/$what >/dev/null 2>&1 && echo reached $what; done;"
        "echo x > /proc/$agent/fd/1 && echo reached stdout; kill -0 $agent && echo reached signal;"
        "echo x > /run/home/agent/.bashrc && echo reached home; echo x >> /run/home/agent/file && echo reached file;"
        "rm /run/home/agent/file && echo reached removal; cat <&9 && echo reached descriptor;"
        "echo x > ~/own && echo own home; true"
    )
    prepare = ": mine-to-give; cat <(:); echo mine > /run/home/agent/file; exec 9< /etc/passwd;"
    # Without the launcher the same attack gets through: the test can tell.
    control = await run(profile, ["/bin/bash", "-c", f"{prepare} /bin/bash -c '{attack}'; true"])
    for what in ("environ", "stdout", "signal", "home", "file", "removal", "descriptor"):
        assert f"reached {what}" in control.out.splitlines(), what
    attack = f"kill -USR1 -1; kill -9 1; {attack}"
    after = "cat /run/home/agent/file; echo alive"
    done = await run(profile, ["/bin/bash", "-c", f"{prepare} {SHELL_LAUNCHER} '{attack}'; {after}"])
    assert "reached" not in done.out, done.out
    assert "own home" in done.out and "mine" in done.out and "alive" in done.out


async def test_shell_that_cannot_be_confined_does_not_start(person: Person) -> None:
    profile = person.profile

    def without_server(words: list[str]) -> list[str]:
        if "--as-pid-1" not in words:
            return words
        place = words.index("/run/dispatch/zone_server.py")
        return words[: place - 4] + words[place + 1 :]

    patient = f"{SHELL_LAUNCHER} 'echo ran'; echo status $?; sleep 1000"
    process = await spawn(
        profile, ["/bin/bash", "-c", patient], profile.environment(), stdin=subprocess.DEVNULL, alter=without_server
    )
    done = await finish(process)
    # Without its zone the whole run is ended, by then or a moment later.
    assert "ran" not in done.out and done.out in ("", "status 126\n")
    assert done.code in KILLED and await process.excess() == Excess("shells")


async def test_without_shells_none_starts(person: Person) -> None:
    done = await shell(replace(person.profile, shells=False), "echo ran")
    assert done.code == 126 and "could not be confined" in done.err and not done.out


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


async def test_a_tree_that_is_killed_while_it_is_built_leaves_nothing(person: Person) -> None:
    """Seen to fail with a kill of bwrap alone: its child then waits for a word of it, for ever."""
    env = person.profile.environment()
    left = []
    for step in range(60):
        process = await spawn(person.profile, ["/bin/cat"], env)
        until = time.perf_counter() + step * 0.0001  # busy: a sleep is longer than what is to be met
        while time.perf_counter() < until:
            pass
        await process.aclose()
        left += [other for other in psutil.process_iter() if group_of(other.pid) == process.pid]
    _, alive = psutil.wait_procs(left, timeout=HANG)  # the last of them may be about to end
    assert alive == []


async def test_links_are_not_followed_into_a_profile(person: Person) -> None:
    link = person.base / "link"
    link.symlink_to(person.ssh)
    for root in (Root(link), Root(link / "id_ed25519")):
        with pytest.raises(SandboxError) as refused:
            await run(person.profile, ["/bin/true"], roots=(root,))
        assert refused.value.code == 403 and "link" in refused.value.message
        with pytest.raises(SandboxError) as refused:
            await run(person.plain, ["/bin/true"], roots=(replace(root, writable=True),))
        assert refused.value.code == 403 and "link" in refused.value.message


async def test_nothing_starts_that_could_write_an_original(person: Person) -> None:
    with pytest.raises(SandboxError) as refused:
        await spawn(person.plain, ["/bin/true"], {})
    assert refused.value.code == 500


async def test_device_and_socket_are_no_roots(person: Person) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(person.base / "s"))
        with pytest.raises(SandboxError) as refused:
            await run(person.profile, ["/bin/true"], roots=(Root(person.base / "s"),))
    assert refused.value.code == 403
    with pytest.raises(SandboxError) as refused:
        await run(person.profile, ["/bin/true"], roots=(Root(person.base / "missing"),))
    assert refused.value.code == 422


# -- ending
# -----------------------------------------------------------------------------------------------------------

STUBBORN = (
    "trap '' TERM INT HUP;"
    "setsid bash -c \"trap '' TERM INT HUP; (trap '' TERM; exec sleep {mark}) & sleep {mark}\" & "
    "(setsid sleep {mark} &) ; echo ready; while :; do sleep {mark}; done"
)


def alive(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def gone(mark: str) -> None:
    """Wait until nothing of the tree is left."""
    with trio.fail_after(HANG):
        while alive(mark):
            await trio.sleep(0.005)


async def test_kill_ends_the_whole_tree(person: Person) -> None:
    mark = f"1000.{os.getpid()}1"
    process = await spawn(person.profile, ["/bin/bash", "-c", STUBBORN.format(mark=mark)], person.profile.environment())
    assert process.stdout is not None
    assert await process.stdout.receive_some(100) == b"ready\n"
    assert len(alive(mark)) >= 4
    process.kill()
    with trio.fail_after(HANG):
        assert await process.wait() == -signal.SIGKILL
    await gone(mark)
    process.kill()  # again: nothing happens, no matter who has the pid now
    await process.aclose()


async def test_cancelling_ends_the_tree(person: Person) -> None:
    mark = f"1000.{os.getpid()}2"
    with trio.move_on_after(HANG) as scope:
        async with await spawn(
            person.profile, ["/bin/bash", "-c", STUBBORN.format(mark=mark)], person.profile.environment()
        ) as process:
            assert process.stdout is not None
            await process.stdout.receive_some(100)
            scope.cancel()
            await trio.sleep_forever()
    assert process.returncode == -signal.SIGKILL
    await gone(mark)


SUPERVISOR = """
import json, sys, trio
from pathlib import Path
from sandbox.confinement import Profile
from sandbox.confinement import Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.confinement import Limits
from sandbox.views import namespace
from sandbox.views.making import make_views
asked = json.load(sys.stdin)
why = namespace.enter()
async def main():
    workspace, roots = Path(asked["workspace"]), (Root(Path(asked["project"]), True),)
    views = make_views(roots, workspace.parent, no_overlay=why, limits=Limits())
    profile = Profile(workspace=workspace, roots=views.roots)
    process = await spawn(profile, ["/bin/bash", "-c", asked["command"]], profile.environment())
    print((await process.stdout.receive_some(100)).decode(), flush=True)
    await trio.to_thread.run_sync(lambda: None)  # worker threads come and go without killing the run
    await trio.sleep_forever()
trio.run(main)
"""


async def test_killing_the_supervisor_ends_the_tree(person: Person) -> None:
    mark = f"1000.{os.getpid()}3"
    asked = {
        "workspace": str(person.workspace),
        "project": str(person.project),
        "command": STUBBORN.format(mark=mark),
    }
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[2],
    )
    try:
        assert supervisor.stdin and supervisor.stdout
        supervisor.stdin.write(json.dumps(asked))
        supervisor.stdin.close()
        assert (await trio.to_thread.run_sync(supervisor.stdout.readline)).strip() == "ready"
        assert len(alive(mark)) >= 4
        # Long enough for a parent-death signal tied to a worker thread (trio keeps idle ones 10 s) would be
        # slow to show, so the spawning thread is asserted directly in the test below; here the tree must
        # still be whole.
        supervisor.kill()
        await gone(mark)
    finally:
        supervisor.kill()
        supervisor.wait()
        assert supervisor.stdout is not None
        supervisor.stdout.close()


async def test_only_the_main_thread_spawns(person: Person) -> None:
    async def attempt() -> None:
        await spawn(person.profile, ["/bin/true"], {})

    def elsewhere() -> None:
        trio.run(attempt)

    with pytest.raises(RuntimeError, match="main thread"):
        await trio.to_thread.run_sync(elsewhere)


async def test_streams_and_status(person: Person) -> None:
    async with await spawn(person.profile, ["/bin/sh", "-c", "cat; echo err >&2; exit 7"], {}) as process:
        assert process.stdin and process.stdout and process.stderr
        await process.stdin.send_all(b"x" * 100_000)
        got = 0
        while got < 100_000:
            got += len(await process.stdout.receive_some(65536))
        await process.stdin.aclose()
        assert await process.stderr.receive_some(10) == b"err\n"
        assert await process.wait() == 7 and process.returncode == 7


async def test_a_program_that_is_missing(person: Person) -> None:
    done = await run(person.profile, ["/nowhere/program"])
    assert done.code != 0 and "nowhere" in done.err
