"""Messages as Pipecat's browser client 1.13 sends them; answers as Pipecat 1.14 gives them."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import Tap
from voicews import __version__
from voicews.frames import (
    BotInterruptedFrame,
    BotOutputFrame,
    BotOutputProgressFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    ClientMessageFrame,
    ClientReadyFrame,
    Direction,
    EndRequestFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    MetricsFrame,
    OutputTransportMessageUrgentFrame,
    PlayedFrame,
    ServerResponseFrame,
    StartInputFrame,
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

    def ready(self, version: str = "2.1.0") -> None:
        """Say hello; what was answered to that is forgotten."""
        self.says("client-ready", {"version": version})
        self.bot.downstream.clear()
        self.input.upstream.clear()

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

    def refusal_of(self, kind: str) -> str:
        """The same for what did reach the bot."""
        for frame in self.for_bot:
            assert isinstance(frame, ClientMessageFrame)
            assert frame.type == kind
            self.bot.downstream.remove(frame)
        return self.refusal()


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
        assert [answer["type"] for answer in session.answers] == ["error-response", "bot-ready"]
        assert "data" in session.answers[1]

    @pytest.mark.parametrize("id_", [None, 7, [], {}])
    def test_an_id_of_another_type_is_not_sent_back(self, id_: Any) -> None:
        session = Session()
        session.says("client-ready", self.data, id_)
        assert "id" not in session.answers[0]

    def test_a_long_id_is_cut(self) -> None:
        session = Session()
        session.says("client-ready", self.data, "x" * 10_000)
        assert session.answers[0]["id"] == "x" * 128

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ({}, "Client version unknown."),
            ({"version": ""}, "Client version unknown."),
            ({"version": None}, "Client version unknown."),
            ({"version": 2}, "Client version unknown."),
            ({"version": "junk"}, "Invalid client version format (junk)."),
            ({"version": "2"}, "Invalid client version format (2)."),
            ({"version": "2.x.0"}, "Invalid client version format (2.x.0)."),
            ({"version": "9" * 5000}, f"Invalid client version format ({'9' * 32})."),
            (
                {"version": "0.3.0"},
                "RTVI version 0.3.0 is not compatible with server protocol 2.2.0.",
            ),
            (
                {"version": "3.0.0"},
                "RTVI version 3.0.0 is not compatible with server protocol 2.2.0.",
            ),
        ],
    )
    def test_a_version_that_is_not_ours_is_told_and_goes_on(
        self, data: dict[str, Any], error: str
    ) -> None:
        session = Session()
        session.says("client-ready", data)
        warning, ready = session.answers
        assert (warning["type"], warning["id"]) == ("error-response", "id1")
        assert warning["data"]["error"] == f"{error} Compatibility issues may occur."
        assert (ready["type"], ready["data"]["version"]) == ("bot-ready", "2.2.0")

    @pytest.mark.parametrize(
        ("version", "answered"), [("1.4.0", "1.4.0"), ("1.0.0", "1.0.0"), ("2.0.0", "2.2.0")]
    )
    def test_the_version_that_is_spoken(self, version: str, answered: str) -> None:
        session = Session()
        session.says("client-ready", {"version": version})
        [ready] = session.answers
        assert ready["data"]["version"] == answered
        assert session.for_bot == [ClientReadyFrame((int(version[0]), int(version[2]), 0))]
        # Audio that waited for this may come.
        assert session.input.upstream == [StartInputFrame()]


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
        message = ClientMessageFrame("ui-event", {"event": "clicked", "payload": {}}, "id1", True)
        assert session.for_bot == [message]

    NOTICES: ClassVar[dict[str, Any]] = {
        "ui-event": {"event": "clicked"},
        "ui-snapshot": {"tree": {"a": []}},
        "ui-cancel-job-group": {"job_id": "j", "reason": None},
        "llm-function-call-result": {
            "function_name": "f",
            "tool_call_id": "t",
            "arguments": {},
            "result": {"a": 1},
        },
        "send-file": {
            "content": "look",
            "file": {"format": "image/png", "source": {"type": "bytes", "bytes": "AAAA"}},
            "options": {"run_immediately": False},
        },
    }

    @pytest.mark.parametrize(("kind", "data"), NOTICES.items())
    def test_what_the_bot_is_told(self, kind: str, data: dict[str, Any]) -> None:
        session = Session()
        session.says(kind, data)
        message = ClientMessageFrame(kind, data, "id1", one_way=True)
        assert session.for_bot == [message]
        session.bot.push_frame(ServerResponseFrame(message, "thanks"), UP)
        assert session.answers == []
        session.bot.push_frame(ServerResponseFrame(message, error="takes no messages"), UP)
        assert session.refusal_of(kind) == "takes no messages"

    def test_a_file_interrupts_as_a_text_does(self) -> None:
        session = Session()
        session.says("send-file", {**self.NOTICES["send-file"], "options": None})
        assert session.for_bot[0] == InterruptionFrame()

    @pytest.mark.parametrize("batch", [False, True])
    def test_raw_audio(self, batch: bool) -> None:
        session = Session()
        format_ = {"sampleRate": 8000, "numChannels": 1}
        if batch:
            session.says("raw-audio-batch", {"base64AudioBatch": ["AAE=", "AgM="], **format_})
        else:
            session.says("raw-audio", {"base64Audio": "AAE=", **format_})
        expected = [InputAudioRawFrame(b"\0\1", 8000), InputAudioRawFrame(b"\2\3", 8000)]
        # To the input, which converts it and listens for speech.
        assert session.input.upstream == expected[: 1 + batch]
        assert session.for_bot == []
        assert session.answers == []

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


BAD_BUTTONS = "expected buttons to be a list of 0-9, *, #, A-D in dtmf"
WRONG_BUTTONS: list[dict[str, Any]] = [
    {},
    *({"buttons": one} for one in ("1", [], [1], ["12"], [""], ["E"], [["1"]], ["1"] * 65)),
]
RAW_AUDIO: list[tuple[dict[str, Any], str]] = [
    ({}, "expected base64 strings of PCM in raw-audio"),
    (
        {"base64Audio": "\u00e9"},
        "expected PCM in raw-audio: string argument should contain only ASCII characters",
    ),
    ({"base64AudioBatch": [7]}, "expected base64 strings of PCM in raw-audio"),
    (
        {"base64Audio": "AAE=", "sampleRate": "8000"},
        "expected an integer sampleRate and numChannels in raw-audio",
    ),
    (
        {"base64Audio": "AAE=", "numChannels": 10**9},
        "expected an integer sampleRate and numChannels in raw-audio",
    ),
    (
        {"base64Audio": "AAECAw==", "numChannels": 4},
        (
            "expected PCM in raw-audio: 16-bit PCM with 4 channel(s): expected a "
            "multiple of 8 bytes, found 4"
        ),
    ),
    (
        {"base64Audio": "AAE=", "sampleRate": 10**9},
        ("expected PCM in raw-audio: sample rate: expected 4000 to 192000 Hz, found 1000000000"),
    ),
]


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
            ("ui-event", {}, "expected event in ui-event"),
            ("ui-snapshot", {}, "expected tree in ui-snapshot"),
            ("ui-cancel-job-group", {"job_id": 7}, "expected job_id in ui-cancel-job-group"),
            ("llm-function-call-result", {}, "expected function_name in llm-function-call-result"),
            ("send-file", {}, "expected a file with a format in send-file"),
            (
                "send-file",
                {"file": {"format": "a/b", "source": {"type": "ftp"}}},
                "expected a source of type bytes or url in send-file",
            ),
            (
                "send-file",
                {"file": {"format": "a/b", "source": {"type": "url"}}},
                "expected a string url in send-file",
            ),
            *(
                ("raw-audio", {"sampleRate": 8000, "numChannels": 1, **raw}, error)
                for raw, error in RAW_AUDIO
            ),
            *(("dtmf", wrong, BAD_BUTTONS) for wrong in WRONG_BUTTONS),
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
            [
                *["client-ready", "client-message", "send-text", "dtmf", "ui-event"],
                *["disconnect-bot", "ui-snapshot", "ui-cancel-job-group", "send-file"],
                *["llm-function-call-result", "raw-audio", "raw-audio-batch"],
            ]
        )
        | st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda children: (
                st.lists(children, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "t",
                            "d",
                            "content",
                            "options",
                            "buttons",
                            "version",
                            "event",
                            "tree",
                            "file",
                            "base64Audio",
                            "base64AudioBatch",
                            "sampleRate",
                            "numChannels",
                        ]
                    ),
                    children,
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

    def output(self, session: Session) -> list[dict[str, Any]]:
        return [message["data"] for message in session.answers]

    def test_what_the_bot_says_in_version_1(self) -> None:
        session = Session()
        session.ready("1.4.0")
        session.bot.push_frame(BotOutputFrame("hi", playback="1"), UP)
        session.bot.push_frame(BotOutputProgressFrame("1", 0, "hi", 2), UP)
        assert self.output(session) == [{"text": "hi", "spoken": True, "aggregated_by": "sentence"}]

    def test_what_the_bot_says_and_how_much_of_it_was_heard(self) -> None:
        session = Session()
        session.ready()
        for number, text in enumerate(["Good day.", "Bye."]):
            session.bot.push_frame(BotOutputFrame(text, playback="1", segment=number), UP)
        for number, text, heard in [(0, "Good day.", 4), (0, "Good day.", 9), (1, "Bye.", 0)]:
            session.bot.push_frame(BotOutputProgressFrame("1", number, text, heard), UP)
        session.bot.push_frame(PlayedFrame("1", 500.0), UP)
        session.bot.push_frame(BotOutputProgressFrame("1", 0, "Good day.", 9), UP)
        output = self.output(session)
        first, second = output[0]["segment_id"], output[1]["segment_id"]
        assert first != second
        assert [
            (one["segment_id"], one["spoken_status"], *one["spoken_progress"].values())
            for one in output
        ] == [
            (first, "new", "", "Good day."),
            (second, "new", "", "Bye."),
            (first, "in-progress", "Good", " day."),
            (first, "completed", "Good day.", ""),
            (second, "new", "", "Bye."),
        ]
        for one in output:
            assert one["will_be_spoken"] is True
            assert one["output_type"] == one["text_type"] == one["aggregated_by"] == "sentence"
            assert "spoken" not in one

    def test_what_is_only_shown_and_what_nobody_follows(self) -> None:
        session = Session()
        session.ready()
        session.bot.push_frame(BotOutputFrame("shown", spoken=False), UP)
        session.bot.push_frame(BotOutputFrame("said"), UP)
        shown, new, said = self.output(session)
        assert (shown["will_be_spoken"], shown["spoken_status"]) == (False, "new")
        assert "spoken_progress" not in shown
        assert (new["will_be_spoken"], new["spoken_status"]) == (True, "new")
        assert (said["segment_id"], said["spoken_status"]) == (new["segment_id"], "completed")

    def test_a_client_that_is_not_ready_hears_nothing(self) -> None:
        session = Session()
        session.bot.push_frame(BotStartedSpeakingFrame(), UP)
        assert session.answers == []
        session.ready()
        # Another client, which may not speak RTVI.
        session.input.push_frame(ClientConnectedFrame(resumed=True))
        session.bot.push_frame(BotStoppedSpeakingFrame(), UP)
        assert session.answers == []
        assert session.input.upstream == [BotStoppedSpeakingFrame()]

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
