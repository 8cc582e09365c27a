"""Errors as a host gets them: {code, message, fix}, and what more helps. What went wrong is peer.protocol.errors."""

from __future__ import annotations

from typing import Any

from mcp_plugin.texts import safe
from peer.protocol.errors import DispatchError, Internal, root_of

Document = dict[str, Any]


class Problem(Exception):
    """An error that brings more than its three members, such as the candidates for an ambiguous name."""

    def __init__(self, error: DispatchError, **more: Any) -> None:
        super().__init__(error.message)
        self.error = error
        self.more = more


def told(raised: BaseException) -> Document:
    """Return what the host is told of an exception: nothing of one that is a defect of ours but that it is."""
    raised = root_of(raised)
    if isinstance(raised, Problem):
        return dict(safe({**raised.error.to_json(), **raised.more}))
    if not isinstance(raised, DispatchError):
        raised = Internal("dispatch-mcp failed at this", fix="report it; what it wrote on standard error helps")
    return dict(safe(raised.to_json()))
