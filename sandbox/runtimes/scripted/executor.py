"""The program of the scripted runtime inside the sandbox: carries out the tool calls that it reads.

Its source runs by itself, with the standard library alone. It judges nothing: the gate has, outside. stdin: {"tool",
"input"} a line; stdout: {"ok", "output"} a line. Shell commands pass through the launcher that confines them further.
"""

import glob
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# os and open load faster than pathlib, and this program starts in every scripted run.
# ruff: noqa: PTH100, PTH103, PTH112, PTH113, PTH118, PTH120, PTH123, PTH207

Call = dict[str, Any]  # JSON; a member that is missing or of another type fails the call
LIMIT = 200_000
"""Characters of one result. The claude program cuts earlier; a trace needs no more."""


def read(call: Call) -> str:
    with open(call["file_path"], encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    first = max(int(call.get("offset") or 1), 1)
    return "\n".join(lines[first - 1 : first - 1 + int(call.get("limit") or 2000)])


def write(call: Call) -> str:
    os.makedirs(os.path.dirname(os.path.abspath(call["file_path"])), exist_ok=True)
    with open(call["file_path"], "w", encoding="utf-8", newline="") as file:
        file.write(call["content"])
    return f"written: {call['file_path']}"


def edit(call: Call) -> str:
    with open(call["file_path"], encoding="utf-8", newline="") as file:
        text = file.read()
    found = text.count(call["old_string"]) if call["old_string"] else 0
    if found == 0:
        raise ValueError("the text to replace is not in the file")
    if found > 1 and not call.get("replace_all"):
        raise ValueError(f"the text to replace is in the file {found} times")
    return write({**call, "content": text.replace(call["old_string"], call["new_string"])})


def find(call: Call) -> str:
    pattern = os.path.join(call.get("path") or ".", call["pattern"])
    return "\n".join(sorted(name for name in glob.iglob(pattern, recursive=True) if os.path.isfile(name)))


def search(call: Call) -> str:
    wanted = re.compile(call["pattern"], re.IGNORECASE if call.get("-i") else 0)
    start = call.get("path") or "."
    names = [start]
    if os.path.isdir(start):
        names = sorted(os.path.join(folder, name) for folder, _, files in os.walk(start) for name in files)
    hits = []
    for name in names:
        try:
            with open(name, encoding="utf-8") as file:
                lines = enumerate(file, 1)
                hits += [f"{name}:{number}:{line.rstrip()}" for number, line in lines if wanted.search(line)]
        except (OSError, UnicodeDecodeError):
            continue  # a socket, a picture, a file of another user: no text to search
    return "\n".join(hits)


def shell(call: Call) -> str:
    seconds = min(float(call.get("timeout") or 120_000) / 1000, 600)
    command = [sys.argv[1], call["command"]]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ValueError(f"{text}\nexit status {done.returncode}".strip())
    return text


TOOLS: dict[str, Callable[[Call], str]] = {
    "Read": read,
    "Write": write,
    "Edit": edit,
    "Glob": find,
    "Grep": search,
    "Bash": shell,
}


def main() -> None:
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"ok": True, "output": TOOLS[call["tool"]](call["input"])[:LIMIT]}
        except Exception as problem:
            answer = {"ok": False, "output": f"{problem}"[:LIMIT]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
