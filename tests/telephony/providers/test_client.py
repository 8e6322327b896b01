from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.telephony.providers.requests import PUBLIC_URL
from voicews.exceptions import ConfigurationError
from voicews.telephony import (
    ApiClient,
    ApiRequest,
    ApiResult,
    Dial,
    Outcome,
    Plivo,
    StreamTarget,
    Telnyx,
    Twilio,
)

TWILIO = Twilio(public_url=PUBLIC_URL, account_sid="AC1", auth_token="hush")
TELNYX = Telnyx(public_url=PUBLIC_URL, api_key="hush", public_key="A", connection_id="7")
PLIVO = Plivo(public_url=PUBLIC_URL, auth_id="MA1", auth_token="hush")

HANG_UP = TWILIO.hang_up("CA1")
DIAL = TWILIO.dial(Dial(to_number="+1", from_number="+2", answer_url=f"{PUBLIC_URL}/"))

Step = httpx2.Response | Exception


class Api:
    """Answers with one step after the other, the last one for ever."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step

    async def send(self, request: ApiRequest, **options: Any) -> ApiResult:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        async with http, ApiClient(http=http, **{"backoff_secs": 0.0, **options}) as client:
            return await client.send(request)


def answer(status: int, body: Any = None, **headers: str) -> httpx2.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return httpx2.Response(status, content=content, headers=headers)


def error(kind: Callable[[str], Exception]) -> Exception:
    return kind("https://secret@api/")


async def test_hang_up_is_one_form() -> None:
    api = Api(answer(200, {"sid": "CA1"}))
    result = await api.send(HANG_UP)
    assert result == ApiResult(outcome=Outcome.DONE, status=200)
    assert result.ok
    request = api.requests[0]
    assert request.method == "POST"
    assert request.content == b"Status=completed"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"].startswith("Basic ")


async def test_json_and_a_repeated_field() -> None:
    api = Api(answer(200, {}))
    await api.send(TELNYX.hang_up("v3:a"))
    assert api.requests[0].headers["content-type"] == "application/json"
    assert json.loads(api.requests[0].content).keys() == {"command_id"}
    assert api.requests[0].url.raw_path == b"/v2/calls/v3%3Aa/actions/hangup"
    await api.send(
        TWILIO.dial(
            Dial(
                to_number="+1",
                from_number="+2",
                answer_url=f"{PUBLIC_URL}/?a=1&b=2",
                status_url=f"{PUBLIC_URL}/status/",
            )
        )
    )
    assert api.requests[1].content.count(b"StatusCallbackEvent=") == 4


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (HANG_UP, answer(404, {"code": 20404, "message": "not found"})),
        (HANG_UP, answer(400, {"code": 21220})),
        (TELNYX.hang_up("v3:a"), answer(422, {"errors": [{"code": "90018"}]})),
        (TELNYX.hang_up("v3:a"), answer(404)),
        (PLIVO.hang_up("c"), answer(404, {"error": "not found"})),
    ],
)
async def test_a_call_that_has_ended_is_as_good(
    request_: ApiRequest, response: httpx2.Response
) -> None:
    result = await Api(response).send(request_)
    assert (result.outcome, result.attempts, result.ok) == (Outcome.ALREADY_ENDED, 1, True)


@pytest.mark.parametrize(
    ("request_", "response", "code"),
    [
        (HANG_UP, answer(404), ""),
        (HANG_UP, answer(401, {"code": 20003}), "20003"),
        (HANG_UP, answer(301), ""),
        (TELNYX.hang_up("v3:a"), answer(422, {"errors": [{"code": "10015"}]}), "10015"),
        (TELNYX.hang_up("v3:a"), answer(422, {"errors": []}), ""),
        (TELNYX.hang_up("v3:a"), answer(422, ["nonsense"]), ""),
        (DIAL, answer(400, {"code": 21211}), "21211"),
    ],
)
async def test_a_refusal_is_final(
    request_: ApiRequest, response: httpx2.Response, code: str
) -> None:
    result = await Api(response).send(request_)
    assert (result.outcome, result.attempts, result.error) == (Outcome.REFUSED, 1, code)
    assert not result.ok


@pytest.mark.parametrize("trouble", [answer(500), answer(503), answer(429), answer(408)])
async def test_hang_up_is_tried_again(trouble: httpx2.Response) -> None:
    result = await Api(trouble, trouble, answer(200)).send(HANG_UP)
    assert (result.outcome, result.attempts) == (Outcome.DONE, 3)


@pytest.mark.parametrize("kind", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.ReadError])
async def test_hang_up_survives_the_network(kind: Callable[[str], Exception]) -> None:
    result = await Api(error(kind), answer(200)).send(HANG_UP)
    assert (result.outcome, result.attempts) == (Outcome.DONE, 2)


async def test_it_gives_up_in_the_end() -> None:
    api = Api(answer(503, {"code": 7}))
    result = await api.send(HANG_UP, max_attempts=3)
    assert result == ApiResult(outcome=Outcome.FAILED, status=503, attempts=3, error="7")
    assert len(api.requests) == 3
    result = await Api(error(httpx2.ConnectError)).send(HANG_UP, max_attempts=2)
    assert result == ApiResult(outcome=Outcome.FAILED, attempts=2, error="ConnectError")


async def test_a_call_is_not_placed_twice() -> None:
    for step in (error(httpx2.ReadTimeout), answer(500), answer(503)):
        api = Api(step, answer(201, {"sid": "CA2"}))
        result = await api.send(DIAL)
        assert (result.outcome, len(api.requests)) == (Outcome.FAILED, 1)
    for step in (error(httpx2.ConnectError), error(httpx2.ConnectTimeout), answer(429)):
        result = await Api(step, answer(201, {"sid": "CA2"})).send(DIAL)
        assert (result.outcome, result.attempts, result.call_id) == (Outcome.DONE, 2, "CA2")


async def test_a_telnyx_command_is_the_same_command_in_each_attempt() -> None:
    target = StreamTarget(url="wss://voice.example.com/")
    dial = TELNYX.dial(Dial(to_number="+1", from_number="+2", stream=target))
    api = Api(answer(500), answer(200, {"data": {"call_control_id": "v3:n"}}))
    result = await api.send(dial)
    assert result.call_id == "v3:n"
    first, second = (json.loads(request.content)["command_id"] for request in api.requests)
    assert first == second


@pytest.mark.parametrize(
    ("body", "call_id"),
    [
        ({"request_uuid": "r-1"}, "r-1"),
        ({"request_uuid": ["r-1", "r-2"]}, "r-1"),
        ({"request_uuid": {}}, ""),
        ([], ""),
        (None, ""),
    ],
)
async def test_the_id_of_a_new_call(body: Any, call_id: str) -> None:
    dial = PLIVO.dial(Dial(to_number="+1", from_number="+2", answer_url=f"{PUBLIC_URL}/"))
    assert (await Api(answer(201, body)).send(dial)).call_id == call_id


async def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(secs: float) -> None:
        waited.append(secs)

    monkeypatch.setattr("voicews.telephony.providers.http.asyncio.sleep", sleep)
    steps = [answer(429, None, **{"retry-after": value}) for value in ("2", "9999", "soon", "-1")]
    await Api(*steps, answer(200)).send(HANG_UP)
    assert waited == [2.0, 10.0, 0.0, 0.0]
    waited.clear()
    await Api(answer(503)).send(HANG_UP, backoff_secs=1.0, max_attempts=4)
    assert [round(secs / 2**n) for n, secs in enumerate(waited)] == [1, 1, 1]
    assert all(0.75 * 2**n <= secs <= 1.25 * 2**n for n, secs in enumerate(waited))


async def test_logs_have_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="voicews")
    await Api(error(httpx2.ConnectError)).send(HANG_UP, max_attempts=1)
    await Api(answer(200)).send(HANG_UP)
    assert "hang up: failed after 1 attempt(s)" in caplog.text
    assert "hang up: done after 1 attempt(s), status 200" in caplog.text
    assert "hush" not in caplog.text
    assert "secret" not in caplog.text


async def test_a_project_keeps_its_own_client_open() -> None:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(Api(answer(200))))
    async with ApiClient(http=http):
        pass
    assert not http.is_closed
    await http.aclose()
    async with ApiClient(timeout_secs=1.0) as client:
        own = client._http
    assert own.is_closed


def test_it_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"voicews\[telephony\]"):
        ApiClient()
