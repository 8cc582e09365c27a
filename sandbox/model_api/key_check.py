"""Asks a model's API whether it takes a key, without asking its model anything: free, and no turn."""

from __future__ import annotations

from typing import Final

import httpx
import trio

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.model_api.interface import ModelApi
from sandbox.model_api.route import checked_base, checked_proxy, trust, untrusted

SECONDS: Final = 20.0
_KEY_FIX: Final = "`dispatch config set model.api_key -` with a key that is valid there"


async def check_key(api: ModelApi, model: frames.Model) -> str:
    """Return what the API says of the key, in a sentence.

    Raises SandboxError: 401 for a key that it refuses, 503 where nothing answers, 422 for settings that lead nowhere.
    """
    base = checked_base(model.base_url or api.public_url)
    trusted = trust(model.ca_file, model.more_ca_file)
    proxy = checked_proxy(model.http_proxy, trusted) if model.http_proxy else None
    target, headers = api.key_check()
    headers = [*headers, *api.key_headers(model.api_key or "")]
    try:
        with trio.fail_after(SECONDS):
            async with (
                httpx.AsyncClient(
                    trust_env=False, verify=trusted, follow_redirects=False, timeout=SECONDS, proxy=proxy
                ) as client,
                client.stream("GET", base + target, headers=headers) as response,
            ):
                status = response.status_code
    except trio.TooSlowError as late:
        raise _unreachable(base, f"no answer within {SECONDS:.0f} s") from late
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
        raise _unreachable(base, untrusted(problem) or str(problem) or type(problem).__name__) from problem
    if status == 200:
        return f"{base} accepts the key"
    if status in (401, 403):
        raise SandboxError(f"{base} rejects the key ({status})", fix=_KEY_FIX, code=401)
    # A gateway need not have the list of models, which is what was asked for.
    return f"{base} answers ({status}), but only the first run shows whether it accepts the key"


def _unreachable(base: str, why: str) -> SandboxError:
    return SandboxError(
        f"can't reach {base}: {why}",
        fix="check the network and model.base_url; behind a proxy, set model.proxy and model.ca_file",
        code=503,
    )
