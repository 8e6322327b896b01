"""Messages as Pipecat's browser client 1.13 sends them; answers as Pipecat 1.14 gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import Tap
from voicews import __version__
from voicews.frames import (
    BotInterruptedFrame,
    BotOutputFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    ClientMessageFrame,
    Direction,
    EndRequestFrame,
    ErrorFrame,
    Frame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    MetricsFrame,
    OutputTransportMessageUrgentFrame,
    ServerResponseFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, RTVIProcessor

UP = Direction.UPSTREAM


class Session:
    """An RTVI processor between two taps."""

    def __init__(self, rtvi: RTVIProcessor | None = None) -> None:
        self.input, self.bot = Tap("input"), Tap("bot")
        Pipeline([self.input, rtvi or RTVIProcessor(), self.bot])

    def ready(self) -> None:
        """Say hello; what was answered to that is forgotten."""
        self.says("client-ready", {})
        self.bot.downstream.clear()

    def says(self, kind: Any, data: Any = ..., id_: Any = "id1", **more: Any) -> None:
        message = {"label": "rtvi-ai", "type": kind, "id": id_, **more}
        if data is not ...:
            message["data"] = data
        self.input.push_frame(InputTransportMessageFrame(message))

    @property
    def for_bot(self) -> list[Frame]:
        sent = OutputTransportMessageUrgentFrame
        return [frame for frame in self.bot.downstream if not isinstance(frame, sent)]

    @property
    def answers(self) -> list[dict[str, Any]]:
        return self.bot.rtvi()

    def refusal(self) -> str:
        """The one answer, an error-response with the request's id; nothing reached the bot."""
        [answer] = self.answers
        assert answer["label"] == "rtvi-ai"
        assert answer["type"] == "error-response"
        assert answer["id"] == "id1"
        assert self.for_bot == []
        error = answer["data"]["error"]
        assert isinstance(error, str)
        return error


class TestHandshake:
    # As recorded: its id is to come back.
    data = {
        "version": "2.1.0",
        "about": {"library": "@pipecat-ai/client-js", "library_version": "1.13.1"},
    }

    def test_client_ready_is_answered(self) -> None:
        session = Session()
        session.says("client-ready", self.data, "df59d055")
        assert session.answers == [
            {
                "label": "rtvi-ai",
                "type": "bot-ready",
                "id": "df59d055",
                "data": {
                    "version": "2.2.0",
                    "about": {"library": "voicews", "library_version": __version__},
                    "capabilities": {
                        "audio_in": True,
                        "audio_out": True,
                        "video_in": False,
                        "screen_in": False,
                        "video_out": False,
                        "metrics": False,
                    },
                },
            }
        ]

    def test_capabilities_and_extras(self) -> None:
        count = iter(range(9))
        session = Session(
            RTVIProcessor(
                capabilities={"metrics": True},
                bot_ready_extras=lambda: {"voicews": {"n": next(count)}},
            )
        )
        session.says("client-ready", self.data)
        session.says("client-ready", self.data)
        assert [a["data"]["voicews"] for a in session.answers] == [{"n": 0}, {"n": 1}]
        assert session.answers[0]["data"]["capabilities"]["metrics"] is True
        assert session.answers[0]["data"]["capabilities"]["audio_in"] is True

    @pytest.mark.parametrize("more", [{}, {"data": None}, {"data": {}}])
    def test_without_data(self, more: dict[str, Any]) -> None:
        session = Session()
        session.says("client-ready", id_="1", **more)
        assert session.answers[0]["type"] == "bot-ready"
        assert "data" in session.answers[0]

    @pytest.mark.parametrize("id_", [None, 7, [], {}])
    def test_an_id_of_another_type_is_not_sent_back(self, id_: Any) -> None:
        session = Session()
        session.says("client-ready", self.data, id_)
        assert "id" not in session.answers[0]

    def test_a_long_id_is_cut(self) -> None:
        session = Session()
        session.says("client-ready", self.data, "x" * 10_000)
        assert session.answers[0]["id"] == "x" * 128


class TestRequests:
    def test_client_message_and_its_answer(self) -> None:
        session = Session()
        session.says("client-message", {"t": "echo", "d": {"hello": "world"}}, "4cc581a5")
        request = ClientMessageFrame("echo", {"hello": "world"}, "4cc581a5")
        assert session.for_bot == [request]
        session.bot.push_frame(ServerResponseFrame(request, {"echo": 1}), UP)
        assert session.answers == [
            {
                "label": "rtvi-ai",
                "type": "server-response",
                "id": "4cc581a5",
                "data": {"t": "echo", "d": {"echo": 1}},
            }
        ]

    def test_a_refusal(self) -> None:
        session = Session()
        request = ClientMessageFrame("fail", {}, "ecf7a80e")
        session.bot.push_frame(ServerResponseFrame(request, error="asked to fail"), UP)
        assert session.answers == [
            {
                "label": "rtvi-ai",
                "type": "error-response",
                "id": "ecf7a80e",
                "data": {"error": "asked to fail"},
            }
        ]

    def test_who_gave_no_id_gets_no_answer(self) -> None:
        session = Session()
        request = ClientMessageFrame("echo")
        session.bot.push_frame(ServerResponseFrame(request, 1), UP)
        session.bot.push_frame(ServerResponseFrame(request, error="no"), UP)
        assert session.answers == []
        assert session.input.upstream == []

    def test_ui_event(self) -> None:
        session = Session()
        session.says("ui-event", {"event": "clicked", "payload": {}})
        assert session.for_bot == [
            ClientMessageFrame("ui-event", {"event": "clicked", "payload": {}})
        ]

    def test_send_text(self) -> None:
        session = Session()
        session.says("send-text", {"content": "hello bot", "options": {}}, "bfad4fd1")
        assert session.for_bot == [InterruptionFrame(), InputTextFrame("hello bot", "bfad4fd1")]
        [echo] = session.answers
        timestamp = echo["data"].pop("timestamp")
        assert timestamp.endswith("+00:00")
        assert echo == {
            "label": "rtvi-ai",
            "type": "user-input",
            "data": {
                "text": "hello bot",
                "input_type": "chat",
                "final": True,
                "msg_id": "bfad4fd1",
            },
        }

    @pytest.mark.parametrize(
        ("options", "interrupts"),
        [
            ({"run_immediately": False}, False),
            ({"run_immediately": True}, True),
            (None, True),
            ([], True),
        ],
    )
    def test_send_text_that_waits(self, options: Any, interrupts: bool) -> None:
        session = Session()
        session.says("send-text", {"content": "hi", "options": options})
        assert (InterruptionFrame() in session.for_bot) is interrupts

    def test_dtmf(self) -> None:
        session = Session()
        session.says("dtmf", {"buttons": ["1", "2", "#", "A"]})
        assert session.for_bot == [InputDTMFFrame(button) for button in "12#A"]
        assert session.answers == []

    def test_disconnect_bot(self) -> None:
        session = Session()
        session.says("disconnect-bot", {})
        assert session.input.upstream == [EndRequestFrame("client asked to end")]

    @pytest.mark.parametrize("label", ["mine", "rtvi-ai ", None, 7])
    def test_other_labels_are_the_applications(self, label: Any) -> None:
        session = Session()
        frame = InputTransportMessageFrame({"label": label, "type": "client-ready"})
        session.input.push_frame(frame)
        session.input.push_frame(InputTransportMessageFrame({}))
        assert session.for_bot == [frame, InputTransportMessageFrame({})]
        assert session.answers == []


class TestWrongShapes:
    @pytest.mark.parametrize(
        ("kind", "data", "error"),
        [
            ("bogus-type", {}, "Unsupported type bogus-type"),
            ("x" * 1000, {}, "Unsupported type " + "x" * 64),
            (None, {}, "Unsupported type None"),
            (7, {}, "Unsupported type 7"),
            ("client-message", [], "expected data to be an object in client-message"),
            ("send-text", "secret", "expected data to be an object in send-text"),
            ("client-ready", 7, "expected data to be an object in client-ready"),
            ("client-message", {}, "expected a string t in client-message"),
            ("client-message", {"t": ["secret"]}, "expected a string t in client-message"),
            ("send-text", {}, "expected a string content in send-text"),
            ("send-text", {"content": {"a": 1}}, "expected a string content in send-text"),
            *(
                ("dtmf", data, "expected buttons to be a list of 0-9, *, #, A-D in dtmf")
                for data in (
                    {},
                    {"buttons": "1"},
                    {"buttons": [1]},
                    {"buttons": ["12"]},
                    {"buttons": [""]},
                    {"buttons": ["E"]},
                    {"buttons": [["1"]]},
                    {"buttons": ["1"] * 65},
                )
            ),
        ],
    )
    def test_are_refused(self, kind: Any, data: Any, error: str) -> None:
        session = Session()
        session.says(kind, data)
        assert session.refusal() == error

    @pytest.mark.parametrize("kind", [[], {}, [[["secret"]]]])
    def test_a_type_that_is_none(self, kind: Any) -> None:
        session = Session()
        session.says(kind, {})
        assert session.refusal().startswith("Unsupported type")

    @pytest.mark.parametrize("kind", ["error", "error-response", "server-response", "bot-ready"])
    def test_answers_are_not_answered(self, kind: str) -> None:
        session = Session()
        session.says(kind, {"error": "Unsupported type error-response"})
        assert session.answers == []
        assert session.for_bot == []

    @given(
        st.sampled_from(
            ["client-ready", "client-message", "send-text", "dtmf", "ui-event", "disconnect-bot"]
        )
        | st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda children: (
                st.lists(children, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["t", "d", "content", "options", "buttons"]), children
                )
            ),
            max_leaves=5,
        ),
        st.none() | st.text(max_size=4) | st.integers(),
    )
    def test_nothing_fails(self, kind: str, data: Any, id_: Any) -> None:
        session = Session()
        session.says(kind, data, id_)
        assert session.input.up(ErrorFrame) == []
        for answer in session.answers:
            json.dumps(answer)
            assert answer["label"] == "rtvi-ai"


class TestReports:
    @pytest.mark.parametrize(
        ("frame", "kind", "data"),
        [
            (UserStartedSpeakingFrame(1, 2), "user-started-speaking", None),
            (UserStoppedSpeakingFrame(1, 2), "user-stopped-speaking", None),
            (BotStartedSpeakingFrame(), "bot-started-speaking", None),
            (BotStoppedSpeakingFrame(), "bot-stopped-speaking", None),
            (BotInterruptedFrame(), "bot-interrupted", None),
            (
                TranscriptionFrame("hi", "u1", "now", final=False),
                "user-transcription",
                {"text": "hi", "user_id": "u1", "timestamp": "now", "final": False},
            ),
            (
                BotOutputFrame("hi", spoken=False),
                "bot-output",
                {"text": "hi", "spoken": False, "aggregated_by": "sentence"},
            ),
            (MetricsFrame({"ttfb": []}), "metrics", {"ttfb": []}),
            (
                ErrorFrame("no voice", True, "tts"),
                "error",
                {"error": "no voice", "fatal": True},
            ),
        ],
    )
    @pytest.mark.parametrize("upstream", [False, True])
    def test_what_happens_is_reported_and_passes(
        self, frame: Frame, kind: str, data: Any, upstream: bool
    ) -> None:
        session = Session()
        session.ready()
        if upstream:
            session.bot.push_frame(frame, UP)
            assert session.input.upstream == [frame]
        else:
            session.input.push_frame(frame)
            assert session.for_bot == [frame]
        expected = {"label": "rtvi-ai", "type": kind}
        if data is not None:
            expected["data"] = data
        assert session.answers == [expected]

    def test_a_client_that_is_not_ready_hears_nothing(self) -> None:
        session = Session()
        session.bot.push_frame(BotStartedSpeakingFrame(), UP)
        assert session.answers == []
        session.ready()
        # Another client, which may not speak RTVI.
        session.input.push_frame(ClientConnectedFrame(resumed=True))
        session.bot.push_frame(BotStoppedSpeakingFrame(), UP)
        assert session.answers == []
        assert session.input.upstream == [BotStartedSpeakingFrame(), BotStoppedSpeakingFrame()]

    def test_what_failed_is_named_without_detail(self) -> None:
        class Failing(FrameProcessor):
            def process_frame(self, frame: Frame, direction: Direction) -> None:
                if frame == TranscriptionFrame("hi"):
                    raise RuntimeError("secret")
                self.push_frame(frame, direction)

        source, last = Tap(), Tap()
        Pipeline([source, RTVIProcessor(), Failing(), last])
        hello = {"label": "rtvi-ai", "type": "client-ready", "id": "1"}
        source.push_frame(InputTransportMessageFrame(hello))
        source.push_frame(TranscriptionFrame("hi"))
        errors = [message for message in last.rtvi() if message["type"] == "error"]
        assert [error["data"] for error in errors] == [{"error": "Failing failed", "fatal": False}]
        assert "secret" not in json.dumps(last.rtvi())
        assert "Traceback" not in json.dumps(last.rtvi())
