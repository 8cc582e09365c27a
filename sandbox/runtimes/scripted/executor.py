"""The program of the scripted runtime inside the sandbox: carries out the tool calls that it reads.

Its source runs by itself, with the standard library alone. It judges nothing: the gate has, outside. stdin: {"tool",
"input"} a line; stdout: {"ok", "output"} a line. Shell commands pass through the launcher that confines them further.
"""

import fnmatch
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

# os and open load faster than pathlib, and this program starts in every scripted run.
# ruff: noqa: PTH100, PTH103, PTH112, PTH114, PTH118, PTH120, PTH123

Call = dict[str, Any]  # JSON; a member that is missing or of another type fails the call
LIMIT = 200_000
"""Characters of one result. The claude program cuts earlier; a trace needs no more."""
ENTRIES = 100_000
"""What one Glob or Grep looks at, in all folders together."""
STOPPED = f"[stopped: there are more than {ENTRIES:,} entries]"


def read(call: Call) -> str:
    with plain(call["file_path"], os.O_RDONLY) as file:
        lines = file.read().splitlines()
    first = max(int(call.get("offset") or 1), 1)
    return "\n".join(lines[first - 1 : first - 1 + int(call.get("limit") or 2000)])


def write(call: Call) -> str:
    os.makedirs(os.path.dirname(os.path.abspath(call["file_path"])), exist_ok=True)
    with plain(call["file_path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, newline="") as file:
        file.write(call["content"])
    return f"written: {call['file_path']}"


def edit(call: Call) -> str:
    with plain(call["file_path"], os.O_RDONLY, errors="strict", newline="") as file:
        text = file.read()
    found = text.count(call["old_string"]) if call["old_string"] else 0
    if found == 0:
        raise ValueError("the text to replace is not in the file")
    if found > 1 and not call.get("replace_all"):
        raise ValueError(f"the text to replace is in the file {found} times")
    return write({**call, "content": text.replace(call["old_string"], call["new_string"])})


def find(call: Call) -> str:
    wanted = os.path.join(call.get("path") or ".", call["pattern"])
    fixed, parts = [], wanted.split("/")
    while len(parts) > 1 and not re.search(r"[*?\[]", parts[0]):
        fixed.append(parts.pop(0))
    start = "/".join(fixed) or ("/" if fixed else ".")
    names = list(walk(start, None if "**" in parts else len(parts)))
    found = [name for name in names if name == STOPPED or matches(os.path.relpath(name, start).split("/"), parts)]
    return "\n".join(sorted(found))


def search(call: Call) -> str:
    wanted = re.compile(call["pattern"], re.IGNORECASE if call.get("-i") else 0)
    start = call.get("path") or "."
    hits: list[str] = []
    for name in sorted(walk(start)) if os.path.isdir(start) else [start]:
        if name == STOPPED:
            hits.append(name)
            continue
        try:
            with plain(name, os.O_RDONLY, errors="strict") as file:
                lines = enumerate(file, 1)
                hits += [f"{name}:{number}:{line.rstrip()}" for number, line in lines if wanted.search(line)]
        except (OSError, ValueError):
            continue  # a pipe, a picture, a file of another user: no text to search
    return "\n".join(hits)


def walk(start: str, levels: int | None = None) -> Iterator[str]:
    """Yield every name below a folder that is no folder, following no link, then STOPPED if there were too many.

    `levels`: how many it goes down; None for all.
    """
    seen = 0
    for folder, inner, names in os.walk(start):
        seen += len(inner) + len(names)
        if seen > ENTRIES:
            yield STOPPED
            return
        for name in [*names, *(name for name in inner if os.path.islink(os.path.join(folder, name)))]:
            yield os.path.join(folder, name)
        if levels is not None and os.path.relpath(os.path.join(folder, "x"), start).count("/") + 1 >= levels:
            inner.clear()


def matches(names: list[str], wanted: list[str]) -> bool:
    """Whether the components of a path match those of a pattern, of which `**` stands for any number."""
    at = _skipping({0}, wanted)
    for name in names:
        stay = {place for place in at if place < len(wanted) and wanted[place] == "**"}
        on = {place + 1 for place in at - stay if place < len(wanted) and fnmatch.fnmatchcase(name, wanted[place])}
        at = _skipping(stay | on, wanted)
    return len(wanted) in at


def _skipping(places: set[int], wanted: list[str]) -> set[int]:
    for place, part in enumerate(wanted):
        if part == "**" and place in places:
            places = places | {place + 1}
    return places


def plain(path: str, flags: int, errors: str = "replace", newline: str | None = None) -> IO[str]:
    """Open a plain file as text. A pipe or a device is refused: reading it might never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a plain file")
    mode = "r" if flags & os.O_ACCMODE == os.O_RDONLY else "w"
    return open(descriptor, mode, encoding="utf-8", errors=errors if mode == "r" else "strict", newline=newline)


def shell(call: Call) -> str:
    seconds = min(float(call.get("timeout") or 120_000) / 1000, 600)
    # Into a file: a pipe would stay open for as long as what the command leaves in the background.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.argv[1], call["command"]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        text = output.read(4 * LIMIT).decode(errors="replace")
    if status != 0:
        raise ValueError(f"{text}\nexit status {status}".strip())
    return text


TOOLS: dict[str, Callable[[Call], str]] = {
    "Read": read,
    "Write": write,
    "Edit": edit,
    "Glob": find,
    "Grep": search,
    "Bash": shell,
}


def cut(text: str) -> str:
    return text if len(text) <= LIMIT else f"{text[:LIMIT]}\n[cut: {len(text) - LIMIT:,} more characters]"


def main() -> None:
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"ok": True, "output": cut(TOOLS[call["tool"]](call["input"]))}
        except Exception as problem:
            answer = {"ok": False, "output": cut(f"{problem}")}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
