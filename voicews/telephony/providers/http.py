"""Sends an `ApiRequest`, repeats it where that is safe, and returns the outcome."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

from voicews.backoff import Backoff, BackoffPolicy
from voicews.exceptions import ConfigurationError
from voicews.telephony.providers.base import ApiRequest, ApiResult, Outcome

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

#: Nothing was done, says the server: trying again is safe whatever the request.
_NOT_NOW: Final = frozenset([429])
_TROUBLE: Final = frozenset([408, 500, 502, 503, 504])
MAX_RETRY_AFTER_SECS: Final = 10.0


class ApiClient:
    """Talks to the APIs of all providers; use as an async context manager, or `aclose` it.

    A request is tried `max_attempts` times, with pauses from `backoff_secs` that double: any
    request when it can't have arrived, an idempotent one after every trouble. `http` is for a
    project's own client (proxies, certificates), which stays the project's to close. Raises
    `ConfigurationError` if the package for it is missing.
    """

    def __init__(
        self,
        *,
        http: httpx2.AsyncClient | None = None,
        timeout_secs: float = 10.0,
        max_attempts: int = 5,
        backoff_secs: float = 0.5,
    ) -> None:
        self._httpx2 = _import_httpx2()
        self._owns_http = http is None
        self._http = http or self._httpx2.AsyncClient(timeout=timeout_secs)
        self._policy = BackoffPolicy(
            first_delay_secs=backoff_secs,
            max_delay_secs=math.inf,
            max_failures=max_attempts - 1,
            spread=(0.75, 1.25),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def send(self, request: ApiRequest) -> ApiResult:
        """Make the request. Never raises for what the provider or the network does."""
        backoff = Backoff(self._policy)
        while True:
            delay_secs = backoff.next_delay()
            result, pause_secs = await self._attempt(request, backoff.failures, delay_secs or 0.0)
            if pause_secs is None or delay_secs is None:
                break
            await asyncio.sleep(pause_secs)
        level = logging.INFO if result.ok else logging.WARNING
        logger.log(
            level,
            "%s: %s after %d attempt(s), status %s %s",
            request.action,
            result.outcome.value,
            result.attempts,
            result.status,
            result.error,
        )
        return result

    async def _attempt(
        self, request: ApiRequest, attempt: int, backoff: float
    ) -> tuple[ApiResult, float | None]:
        """How it went, and how long (seconds) to wait before the next attempt; None: no more."""
        not_sent = (
            self._httpx2.ConnectError,
            self._httpx2.ConnectTimeout,
            self._httpx2.PoolTimeout,
        )
        try:
            response = await self._http.request(
                request.method,
                request.url,
                headers=_headers(request),
                content=None if request.form is None else urlencode(request.form),
                json=request.json,
            )
        except self._httpx2.HTTPError as error:
            # Its class says enough: its text may have the URL.
            failed = ApiResult(outcome=Outcome.FAILED, attempts=attempt, error=type(error).__name__)
            again = request.is_idempotent or isinstance(error, not_sent)
            return failed, backoff if again else None
        return self._judge(request, response, attempt, backoff)

    def _judge(
        self, request: ApiRequest, response: httpx2.Response, attempt: int, backoff: float
    ) -> tuple[ApiResult, float | None]:
        status = response.status_code
        body = _read_body(response)
        code = _error_code(body)

        def result(outcome: Outcome, call_id: str = "") -> ApiResult:
            return ApiResult(
                outcome=outcome, status=status, attempts=attempt, error=code, call_id=call_id
            )

        if response.is_success:
            return result(Outcome.DONE, _find_id(body, request.id_path)), None
        if status in request.ended and request.ended[status] in (None, code):
            return result(Outcome.ALREADY_ENDED), None
        if status in _NOT_NOW or (status in _TROUBLE and request.is_idempotent):
            return result(Outcome.FAILED), max(backoff, _retry_after_secs(response))
        return result(Outcome.FAILED if status in _TROUBLE else Outcome.REFUSED), None


def _import_httpx2() -> Any:
    try:
        import httpx2
    except ImportError:
        raise ConfigurationError(
            "requests to providers need a package that is not installed: "
            "pip install 'voicews[telephony]'"
        ) from None
    return httpx2


def _headers(request: ApiRequest) -> dict[str, str]:
    if request.form is None:
        return dict(request.headers)
    return {"Content-Type": "application/x-www-form-urlencoded", **request.headers}


def _read_body(response: httpx2.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _error_code(body: object) -> str:
    """Twilio's and Telnyx's code of an error; empty where there is none."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        body = errors[0]
    code = body.get("code", "")
    return str(code)[:64] if isinstance(code, str | int) else ""


def _find_id(body: object, path: Sequence[str]) -> str:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    # Plivo gives a list where several were called at once.
    if isinstance(body, list) and body:
        body = body[0]
    return body if path and isinstance(body, str) else ""


def _retry_after_secs(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), MAX_RETRY_AFTER_SECS) if value.isdecimal() else 0.0
