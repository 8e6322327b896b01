"""What is masked in a log, and what is left as it is."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.security.tokens import issue_connect_token, issue_resume_token
from voicews.servers import log_redaction
from voicews.servers.log_redaction import LOGGERS, TokenFilter, mask
from voicews.telephony.tokens import Purpose, issue_phone_token

SESSION = UUID(int=0xABCDEF)
TOKENS = [
    issue_connect_token(SESSION),
    issue_resume_token(SESSION),
    issue_phone_token(Purpose.STREAM, "twilio", SESSION, 60),
    issue_phone_token(Purpose.CALL, "plivo", SESSION, 60),
]
#: Names for them in the tests' names, which xdist's workers must agree on.
KINDS = ["connect", "resume", "stream", "call"]
MASKED = f"{SESSION.hex}***"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a logger with the filter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.redaction")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    logger.addFilter(TokenFilter())
    yield stream
    logger.handlers.clear()
    logger.filters.clear()


logger = logging.getLogger("tests.redaction")


@pytest.mark.parametrize("token", TOKENS, ids=KINDS)
@pytest.mark.parametrize(
    "text",
    [
        '127.0.0.1:1 - "WebSocket /ws/voice/0/?token={}&client=voicews" [accepted]',
        '"WebSocket /ws/voice/twilio/{}/" 403',
        "/voice/twilio/status/?bot=a&call={}",
        "<WebSocketProtocol path=b'/ws/voice/plivo/{}'>",
        "{}",
        "{} {}",
        "{}spoilt",
    ],
)
def test_tokens_are_masked_wherever_they_are(token: str, text: str) -> None:
    masked = mask(text.replace("{}", token))
    assert MASKED in masked
    assert token[33:] not in masked


def test_an_escaped_dot() -> None:
    assert mask(TOKENS[0].replace(".", "%2E")) == MASKED


@pytest.mark.parametrize(
    "text",
    [
        "/ws/voice/00000000-0000-0000-0000-000000abcdef/?token=",
        "/shop/?token=theirs&call=theirs",
        f"/static/{'0123456789abcdef' * 2}.js",
        f"/static/{'0123456789abcdef' * 4}.js",
        f"{SESSION.hex}.css.map",
        "",
    ],
)
def test_nothing_else_is_touched(text: str) -> None:
    assert mask(text) == text


@given(st.text())
def test_any_text(text: str) -> None:
    assert mask(text) == text


class Shown:
    """Has a token in its representation."""

    def __repr__(self) -> str:
        return f"<{TOKENS[0]}>"


class Failing:
    """Can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("token", TOKENS, ids=KINDS)
def test_texts_and_arguments(written: io.StringIO, token: str) -> None:
    logger.info("ready %s" % token)  # noqa: G002, UP031
    logger.info("positional %s %d", token, 1)
    logger.info("named %(path)s", {"path": f"/{token}/"})
    logger.info("bytes %r", token.encode())
    logger.info("object %r", Shown())
    logger.info("nested %s", {"path": token})
    logger.info("no arguments, 100 %")
    lines = written.getvalue().splitlines()
    assert token not in written.getvalue()
    assert lines[:4] == [
        f"ready {MASKED}",
        f"positional {MASKED} 1",
        f"named /{MASKED}/",
        f"bytes b'{MASKED}'",
    ]
    assert lines[4:] == [
        f"object <{MASKED}>",
        f"nested {{'path': '{MASKED}'}}",
        "no arguments, 100 %",
    ]


def test_arguments_stay_for_formatters_that_read_them() -> None:
    record = logging.LogRecord("x", 20, "x", 1, "%s %d", (TOKENS[0], 200), None)
    assert TokenFilter().filter(record)
    assert record.args == (MASKED, 200)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [("%d", ("no number",)), ("%s", ()), ("%s %s", ("one",)), ("%s", (Failing(),)), (None, ())],
)
def test_what_cannot_be_written_is_left_to_the_handler(
    text: object, arguments: tuple[object, ...]
) -> None:
    record = logging.LogRecord("x", 20, "x", 1, text, arguments, None)
    assert TokenFilter().filter(record)
    assert record.args == arguments


def test_it_is_installed_once_and_outlives_a_configuration() -> None:
    log_redaction.install()
    # What uvicorn does before it loads the application, and Django with LOGGING.
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "loggers": {"uvicorn.error": {}, "uvicorn.access": {}},
        }
    )
    for name in LOGGERS:
        found = [one for one in logging.getLogger(name).filters if isinstance(one, TokenFilter)]
        assert len(found) == 1


class Atoms(dict[str, str]):
    """What gunicorn's access log has for arguments: any name has a value."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name) if name in self else "-"


def test_arguments_that_answer_for_names_they_have_not(written: io.StringIO) -> None:
    atoms = Atoms({"r": f"GET /?token={TOKENS[0]}"})
    logger.info("%(r)s %({x-request-id}i)s", atoms)
    assert written.getvalue() == f"GET /?token={MASKED} -\n"
