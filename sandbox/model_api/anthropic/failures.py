"""What errors and endings of the Anthropic Messages API mean: which pass by themselves, and words for the others. Pure.

https://docs.claude.com/en/api/errors, https://docs.claude.com/en/api/handling-stop-reasons
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sandbox.model_api.interface import Explanation, Failure

_OVERLOADED: Final = {
    "overloaded_error": (529, "overloaded"),
    "rate_limit_error": (429, "refusing more requests for now"),
}
"""By the word in the body, else by the status."""
_TOO_LONG: Final = re.compile(
    r"prompt is too long|exceed(s|ed)? (the )?(model's )?context|context.{0,20}(limit|window|length)", re.I
)
"""The API answers 400 `invalid_request_error` for these, told apart only by its words; gateways have others."""
_OTHER_MODEL: Final = "`dispatch config set model.name NAME`"


def overloaded(failure: Failure, headers: Mapping[str, str]) -> str:
    """See `ModelApi.overloaded`."""
    # Whether it is worth asking again is the API's to say: for a limit of the account's it is not.
    if headers.get("x-should-retry") == "false":
        return ""
    for kind, (status, why) in _OVERLOADED.items():
        if kind == failure.kind or status == failure.status:
            return why
    return "not available" if failure.status == 503 and "retry-after" in headers else ""


def explain(failure: Failure, model: str) -> Explanation | None:
    """See `ModelApi.explain`."""
    if failure.kind == "refusal":
        return Explanation(
            "the model declined to go on with this task (it ended its answer as a refusal)",
            f"reword the task, or use another model: {_OTHER_MODEL}",
            403,
        )
    if failure.kind == "model_context_window_exceeded" or (failure.status == 400 and _TOO_LONG.search(failure.said)):
        return Explanation(
            "the model's context is full: this run's conversation no longer fits",
            f"split it into smaller tasks, or use a model with a larger context: {_OTHER_MODEL}",
            413,
        )
    if failure.kind == "request_too_large" or failure.status == 413:
        return Explanation(
            "a request of this run was larger than the model's API accepts (413)",
            "split it into smaller tasks, with fewer or smaller files",
            413,
        )
    if failure.status == 404 and failure.kind == "not_found_error" and model in failure.said:
        return Explanation(
            f"the model's API has no model {model[:200]!r} (404)",
            f"{_OTHER_MODEL} with one that it has; an empty name leaves the choice to the agent",
            404,
        )
    if failure.status == 404:
        return Explanation(
            "there is no model API at the address in model.base_url (404)",
            "`dispatch config set model.base_url URL`, without /v1/messages at its end",
            404,
        )
    return None
