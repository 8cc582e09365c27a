"""The program that starts an agent's shell commands inside the sandbox: enters a Landlock domain, then becomes bash.

Its source runs by itself, with the standard library and landlock.py. The claude program gets it as
CLAUDE_CODE_SHELL_PREFIX. Without it a shell command could write the memory of the agent program and its pipes to the
supervisor, and so forge tool calls and results. Any step that fails ends it with status 126: never a shell without its
domain. PR_SET_DUMPABLE is not used, since exec resets it; the Landlock domain closes memory, and survives exec.
"""

import ctypes
import json
import os
import sys

SETTINGS = "/run/dispatch/shell.json"
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_NUMBERS = {"x86_64": 317, "aarch64": 277}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter_calls(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - see landlock.py
        code = file.read()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SECCOMP_NUMBERS[os.uname().machine]
    if libc.syscall(ctypes.c_long(number), _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def main() -> None:
    """`launcher 'command'` runs it by bash; `launcher --exec program argument…` runs a program directly."""
    try:
        with open(SETTINGS, encoding="utf-8") as file:  # noqa: PTH123
            settings = json.load(file)
        sys.path.insert(0, os.path.dirname(SETTINGS))  # noqa: PTH120
        import landlock  # type: ignore[import-not-found, unused-ignore]

        os.closerange(3, 65536)
        landlock.restrict(settings["writable"])
        _filter_calls(settings["filter"])
        os.environ["HOME"] = settings["home"]
        for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
            del os.environ[name]  # the agent program's secret for the model proxy, and the proxy's address
        arguments = sys.argv[1:]
        command = arguments[1:] if arguments[:1] == ["--exec"] else ["/bin/bash", "-c", *arguments]
    except Exception as problem:
        sys.stderr.write(f"this shell could not be confined: {problem!r}\n")
        sys.exit(126)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as problem:
        sys.stderr.write(f"{command[0]}: {problem.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
