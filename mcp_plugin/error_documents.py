"""Exceptions as documents for a host: {code, message, fix} and further members. The errors are peer.protocol.errors."""

from __future__ import annotations

from mcp_plugin.fixes import in_document
from mcp_plugin.results import safe
from peer.client.blocking import Document
from peer.protocol.errors import DispatchError, Internal, root_of


class DetailedError(Exception):
    """An error with more than the three members, such as the candidates for an ambiguous name."""

    def __init__(self, error: DispatchError, **details: object) -> None:
        super().__init__(error.message)
        self.error = error
        self.details = details


def error_document(raised: BaseException) -> Document:
    """Return the document of an exception. A defect of ours becomes a 500 without its details."""
    raised = root_of(raised)
    if isinstance(raised, DetailedError):
        return safe({**in_document(raised.error.to_json()), **raised.details})
    if not isinstance(raised, DispatchError):
        raised = Internal("dispatch-mcp failed unexpectedly", fix="report it, with what it wrote to standard error")
    return safe(in_document(raised.to_json()))
