"""The type of JSON documents, for the loopback API and the JSON columns of the store. Their shapes are not here."""

from typing import Any

Document = dict[str, Any]
"""A JSON object. `Any`, because a member may be any JSON value; the shape is in the docstring of what returns one."""
