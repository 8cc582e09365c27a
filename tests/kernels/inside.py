"""What runs in a guest, as root: each step of STEPS for root and for an ordinary user; results go to a disk as a tar.

    python -m tests.kernels.inside REFUSAL [root|ordinary] [steps, or pytest arguments in place of them]

REFUSAL: what is said here of a run, "" where runs have to work.

`results.json` is a list of {user, step, outcome, detail, seconds}; `facts.json` says which machine this was.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from tests.kernels.guest import BEGUN
from tests.kernels.table import JAMMY

RESULT: Final = Path("/dev/disk/by-id/virtio-result")
CHECKOUT: Final = Path(__file__).resolve().parents[2]
PERSON: Final = 1000
SECONDS: Final = 900 * int(os.environ.get("TESTS_SLOWER", "1"))
"""Of one call. What takes longer hangs, also where the processor is emulated."""

SUITES: Final[Mapping[str, Sequence[str]]] = {
    "attacks": ["tests/attacks/test_attacks.py"],
    "claude": ["tests/sandbox/test_claude.py"],
    "run": ["tests/sandbox/test_agent.py"],
    "walls": ["tests/sandbox/test_confinement.py", "tests/sandbox/test_seccomp.py"],
    "views": ["tests/sandbox/test_views.py", "tests/sandbox/changes/test_changes.py"],
    "landing": ["tests/landing/test_landing.py"],
}
"""Step → what pytest is given, in one call for all: where the processor is emulated, a start takes a minute.
`canaries`, `refusals` and `service` are steps beside these.
"""

USERS: Final = ("root", "ordinary")
STEPS: Final = {"refusals", "canaries", "service", *SUITES}

Row = dict[str, Any]


def main(refusal: str, chosen: Sequence[str]) -> None:
    print(f"\n{BEGUN} on {platform.release()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kernel-tests-", dir="/var/tmp") as folder:
        into = Path(folder)
        into.chmod(0o777)
        (into / "facts.json").write_text(json.dumps(_facts()))
        rows: list[Row] = []

        def note(user: str, found: Iterator[Row]) -> None:
            for each in found:
                row = {"user": user, **each}
                rows.append(row)
                print(f"kernel tests: {user} {row['step']}: {row['outcome']} {row['detail'][:200]}", flush=True)
                (into / "results.json").write_text(json.dumps(rows))

        # What changes the machine while it is tried comes before the suites, which both users run side by side.
        users = [user for user in USERS if user in chosen] or USERS
        chosen = [word for word in chosen if word not in USERS]
        for user in users:
            note(user, _alone(user, refusal, chosen, into))
        with ThreadPoolExecutor() as side_by_side:
            list(side_by_side.map(lambda user: note(user, _suites(user, refusal, chosen, into)), users))
        with RESULT.open("r+b") as disk, tarfile.open(fileobj=disk, mode="w|") as archive:
            archive.add(into, arcname=".")
        os.sync()
    print("kernel tests: ended", flush=True)


def _alone(user: str, refusal: str, chosen: Sequence[str], into: Path) -> Iterator[Row]:
    if refusal and not chosen:
        yield _prove(user, refusal)
        if Path(JAMMY.newer).exists():
            yield from _pytest({"mended": ["tests/kernels/old_bubblewrap.py"]}, user, into)
        return
    steps = _steps(chosen)
    if "refusals" in steps:
        yield from _pytest({"refusals": ["tests/kernels/refusals.py"]}, user, into)
    if "canaries" in steps:
        yield _prove(user, "")
    if "service" in steps and user == "root":  # who opens the person's sessions
        yield from _pytest({"service": ["tests/kernels/service.py"]}, user, into)


def _suites(user: str, refusal: str, chosen: Sequence[str], into: Path) -> Iterator[Row]:
    if refusal and not chosen:
        return
    steps = _steps(chosen)
    if suites := {name: tests for name, tests in SUITES.items() if name in steps}:
        yield from _pytest(suites, user, into)
    if not steps:
        yield from _pytest({"chosen": chosen}, user, into)


def _steps(chosen: Sequence[str]) -> Set[str]:
    """What is to be done; nothing where tests were named in place of it."""
    return STEPS if not chosen else set(chosen) if set(chosen) <= STEPS else set()


def _prove(user: str, refusal: str) -> Row:
    """The proof of `doctor`: the sandbox by its canaries, the gate with the real claude program."""
    step = "refused" if refusal else "canaries"
    words = [sys.executable, "-B", "-m", "tests.kernels.patient", "--prove", *([] if refusal else ["claude"])]
    done = _as(user, words)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return _row(step, False, (done.stdout + done.stderr)[-2000:])
    error = found.get("error")
    if refusal:
        held = error is not None and found["tier"] is None and refusal in error["message"]
        return _row(step, held, _sentence(error) or "a run was not refused")
    if error:
        return _row(step, False, _sentence(error))
    opened = [canary["name"] for canary in found["canaries"] if not canary["ok"]]
    untestable = [canary["name"] for canary in found["canaries"] if canary["detail"] == "untestable"]
    said = f"{len(found['canaries'])} canaries, {', '.join(found['mechanisms'])}, and the gate"
    said += f"; untestable here: {', '.join(untestable)}" if untestable else ""
    return _row(step, not opened, f"open: {', '.join(opened)}" if opened else said)


def _sentence(error: Row | None) -> str:
    return f"{error['message']} — {error['fix']}" if error else ""


def _pytest(suites: Mapping[str, Sequence[str]], user: str, into: Path) -> Iterator[Row]:
    """Run the tests of all suites; a row for each, by the file of each test. What ran not at all has failed."""
    name = f"{user}-{'-'.join(suites)}"
    xml = into / f"{name}.xml"
    words = [sys.executable, "-B", "-m", "pytest", "-v", "-m", "not long", f"--basetemp=/var/tmp/t-{name}"]
    words += [f"--junitxml={xml}", "-o", "junit_family=xunit1", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    words += ["-p", "tests.kernels.patient"]
    words += ["-o", f"timeout={600 * int(os.environ['TESTS_SLOWER'])}"]
    words += ["-ra", "-n", "0"]
    done = _as(user, [*words, *(test for tests in suites.values() for test in tests)], shown=True)
    (into / f"{name}.txt").write_text(done.stdout[-400_000:])
    cases = list(ElementTree.parse(xml).iter("testcase")) if xml.exists() else []
    for suite, tests in suites.items():
        files = {test.split("::")[0] for test in tests}
        count = {"passed": 0, "failed": 0, "skipped": 0}
        seconds = 0.0
        for case in cases:
            place = case.get("file", "")
            if any(place == file or place.startswith(f"{file}/") for file in files):
                kinds = {child.tag for child in case}
                count["failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"] += 1
                seconds += float(case.get("time", "0"))
        said = ", ".join(f"{number} {what}" for what, number in count.items())
        ran = count["passed"] > 0 and not count["failed"]
        yield _row(suite, ran, said if cases else done.stdout[-2000:], seconds)


def _row(step: str, passed: bool, detail: str, seconds: float = 0.0) -> Row:
    return {
        "step": step,
        "outcome": "passed" if passed else "failed",
        "detail": detail,
        "seconds": round(seconds, 1),
    }


def _as(user: str, words: Sequence[str], *, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program as this user. `shown`: what it says, errors too, appears on the console while it runs."""
    home = "/root" if user == "root" else "/home/person"
    if user != "root":
        words = ["setpriv", f"--reuid={PERSON}", f"--regid={PERSON}", "--clear-groups", *words]
    words = ["timeout", "--kill-after=30", str(SECONDS), *words]
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "KERNEL_TESTS_GUEST": "1",
        "TESTS_SLOWER": os.environ["TESTS_SLOWER"],
    }
    out: list[str] = []
    with subprocess.Popen(
        words,
        cwd=CHECKOUT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if shown else subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        if not shown:
            said, errors = process.communicate()
            return subprocess.CompletedProcess(words, process.returncode, said, errors)
        for line in process.stdout:
            out.append(line)
            print(f"{user}: {line[:300].rstrip()}", flush=True)
    return subprocess.CompletedProcess(words, process.returncode, "".join(out), "")


def _facts() -> Row:
    def read(path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except OSError:
            return ""

    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False)
    return {
        "release": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "lsm": read("/sys/kernel/security/lsm"),
        "bubblewrap": bwrap.stdout.strip(),
        "apparmor_restrict_unprivileged_userns": read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        "unprivileged_userns_clone": read("/proc/sys/kernel/unprivileged_userns_clone"),
        "cpu": next((line for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")), ""),
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
