"""What computing a change set costs, by the number of changes: until it is listed, with the contents kept.

Each line is a project of so many small files, every one of them changed by a run in an overlay; the program is started
as the node starts it. Beside it: reading and hashing as many files, old and new, which it cannot do without.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec

from peer.machine.installation import AGENT_ENVIRONMENT, CHANGES, ROOT
from sandbox.changes.values import BLOBS, CHANGE_SET, ChangeSet
from sandbox.views import namespace
from sandbox.views.record import RECORDS, ViewRecord, ViewRecords
from tests.bench._table import Line, p50, show

SIZES = (100, 1_000, 10_000)
ROUNDS = 3
CONTENT = "".join(f"line {number} of a small file\n" for number in range(100))


def files(project: Path, count: int) -> list[Path]:
    return [project / f"part{number // 100}" / f"file{number}.txt" for number in range(count)]


def set_up(base: Path, count: int) -> tuple[Path, list[Path], list[Path]]:
    """Make a project, and a run's folder with an overlay's upper layer in which each file has one other line."""
    project, run = base / "project", base / "run"
    view = run / "views/1"
    upper = view / "upper"
    for folder in (project, upper, view / "work", view / "merged"):
        folder.mkdir(parents=True)
    before, after = files(project, count), files(upper, count)
    for number, place in enumerate(before):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{number}\n{CONTENT}")
    about = project.stat()
    record = ViewRecord(
        number=1,
        root=str(project),
        inside="/project",
        kind="overlay",
        device=about.st_dev,
        inode=about.st_ino,
        made_ns=time.time_ns(),
    )
    (run / "views" / RECORDS).write_bytes(msgspec.json.encode(ViewRecords(views=[record])))
    layers = f"lowerdir={project},upperdir={upper},workdir={view / 'work'},userxattr"
    merged = view / "merged"
    mount = f"mount -t overlay -o {layers} overlay {merged}"
    script = f"{mount} && find {merged} -type f -exec sed -i 50s/line/row/ {{}} +"
    maker = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
    subprocess.run([*maker, "sh", "-ec", script], check=True)
    os.sync()
    return run, before, after


def compute(run: Path, count: int) -> float:
    destination = run / "changes"
    start = time.perf_counter()
    subprocess.run(
        [*CHANGES, str(run), str(destination)], cwd=ROOT, env=dict(AGENT_ENVIRONMENT), check=True, capture_output=True
    )
    taken = time.perf_counter() - start
    found = msgspec.json.decode((destination / CHANGE_SET).read_bytes(), type=ChangeSet)
    assert len(found.entries) == count and not found.incomplete and len(list((destination / BLOBS).iterdir())) == count
    shutil.rmtree(destination)
    return taken


def read(places: list[Path]) -> float:
    start = time.perf_counter()
    for place in places:
        hashlib.sha256(place.read_bytes()).digest()
    return time.perf_counter() - start


def main() -> None:
    if refused := namespace.enter():
        print(f"\nno overlay here: {refused}")
        return
    lines = []
    for count in SIZES:
        with tempfile.TemporaryDirectory(prefix="dispatch-bench-", dir="/var/tmp") as folder:
            run, before, after = set_up(Path(folder).resolve(), count)
            computed, plain = [], []
            for _ in range(ROUNDS):
                plain.append(read([*before, *after]))
                computed.append(compute(run, count))
        each = f"{p50(computed) * 1e3:,.0f} ms, {p50(computed) / count * 1e3:.2f} ms each"
        lines.append(Line(f"{count:,} changes", each, p50(computed) / p50(plain), "reading and hashing"))
    show(f"The change set of a run, {ROUNDS} times each", lines)


if __name__ == "__main__":
    main()
