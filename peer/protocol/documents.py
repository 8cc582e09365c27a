"""JSON documents, as the loopback API and the store's JSON columns have them."""

from typing import Any

Document = dict[str, Any]
"""A JSON object. `Any`, because its members are whatever JSON has; each function that makes one says its shape."""
