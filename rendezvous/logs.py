"""The log of both programs: one JSON object a line on standard error, and nothing in it about whom it is.

Exceptions are logged as their types and where they were raised. Their messages, and the values that libraries put into
theirs, can hold an e-mail address, a network address or a token. The events are listed in docs/broker.md.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

MAX_FRAMES = 20
"""Of each exception, the innermost."""
MAX_EXCEPTIONS = 8
"""Of a chain of causes, and of the members of groups."""


def to_stderr() -> None:
    """Have this process log so: our events, those of libraries from warnings on, and what ends the program."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            raised_without_words,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_WithoutValues())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _ended


def raised_without_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put `raised` in place of `exc_info`."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, BaseException):
        event["raised"] = places(raised)
    return event


def places(raised: BaseException) -> list[dict[str, object]]:
    """Return, for an exception and what led to it, {kind, at: ["module.py:line function", …]}, innermost last."""
    found: list[dict[str, object]] = []
    waiting: list[BaseException | None] = [raised]
    seen: set[int] = set()
    while waiting and len(found) < MAX_EXCEPTIONS:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        found.append({"kind": type(one).__name__, "at": _frames(one.__traceback__)})
        waiting += [one.__cause__ or (None if one.__suppress_context__ else one.__context__)]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{'/'.join(Path(code.co_filename).parts[-2:])}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-MAX_FRAMES:]


class _WithoutValues(logging.Formatter):
    """A library's message as it stands in its source, without the values that it is filled with."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"event": "library.said", "library": record.name, "message": str(record.msg)}
        if record.args == () or record.args is None:  # may be filled in already
            line["message"] = f"{record.module}:{record.lineno}"
        if record.exc_info and record.exc_info[1] is not None:
            line["raised"] = places(record.exc_info[1])
        return _line(record.levelname.lower(), line)


def _ended(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    sys.stderr.write(_line("critical", {"event": "program.ended", "raised": places(error)}) + "\n")


def _line(level: str, content: dict[str, Any]) -> str:
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({**content, "level": level, "timestamp": at})
