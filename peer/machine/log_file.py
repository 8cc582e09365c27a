"""The log file of a node: daemon.log in its state folder, rotated, readable by its owner only. No events here."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

import structlog

from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Unavailable

LOG_BYTES = 5 * 1024 * 1024
LOG_FILES = 3


def set_up_logging(folder: StateFolder) -> None:
    """Log to daemon.log (0600, rotated), one JSON object per line: ids and codes, never task texts or secrets.

    Raises Unavailable if the file cannot be opened.
    """
    try:
        handler = _PrivateLog(folder.daemon_log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"can't write {folder.daemon_log}: {error.strerror}",
            fix="make the state folder writable, or set DISPATCH_HOME to another folder",
        ) from error
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, _PrivateLog):
            old.close()  # a session may host a node, stop and host again
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("httpx", "httpcore", "hypercorn", "libp2p", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _PrivateLog(RotatingFileHandler):
    """Creates every log file with mode 0600, including those of a rotation."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding, line_buffering=True)
