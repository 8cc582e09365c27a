"""JSON documents, as the loopback API and the store's JSON columns have them, and words that they share."""

from typing import Any, Literal

Document = dict[str, Any]
"""A JSON object. `Any`, because its members are whatever JSON has; each function that makes one says its shape."""

Direction = Literal["received", "sent"]
"""Of a dispatch, seen from this device. The inbox lists what was received."""
