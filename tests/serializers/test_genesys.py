"""The AudioHook protocol from the server's side, as its reference implementation has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.close_codes import CloseCode
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    PingFrame,
    PongFrame,
    ProtocolRequestFrame,
)
from voicews.serializers.genesys import NULL_UUID, GenesysSerializer, RateLimit
from voicews.serializers.telephony import UnusableStart

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
CONVERSATION = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
EXTERNAL = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}


class Peer:
    """Genesys's side: numbers what it sends."""

    def __init__(self, **options: Any) -> None:
        self.serializer = GenesysSerializer(**options)
        self.seq = 0
        self.server_seq = 0

    def send(self, kind: str, **parameters: Any) -> Frame | None:
        self.seq += 1
        return self.serializer.deserialize(
            json.dumps(
                {
                    "version": "2",
                    "type": kind,
                    "id": SESSION,
                    "seq": self.seq,
                    "serverseq": self.server_seq,
                    "position": "PT0S",
                    "parameters": parameters,
                }
            )
        )

    def open(self, media: Any = (EXTERNAL,), **parameters: Any) -> CallStartedFrame:
        frame = self.send(
            "open",
            **{
                "organizationId": "d7934305-0972-4844-938e-9060eef73d05",
                "conversationId": CONVERSATION,
                "participant": {
                    "id": "883efee8-3d6c-4537-b500-6d7ca4b92fa0",
                    "ani": "tel:+15551234567",
                    "aniName": "Jane",
                    "dnis": "+15557654321",
                },
                "media": list(media),
                "language": "en-US",
                "inputVariables": {"token": "3f9c"},
                **parameters,
            },
        )
        assert isinstance(frame, CallStartedFrame)
        self.receive(frame)
        return frame

    def receive(self, frame: Frame) -> Any:
        """What the server says, checked for its envelope."""
        message = self.serializer.serialize(frame)
        assert isinstance(message, str)
        content = json.loads(message)
        self.server_seq += 1
        assert content.pop("version") == "2"
        assert content.pop("id") == SESSION
        assert content.pop("seq") == self.server_seq
        assert content.pop("clientseq") == self.seq
        assert content.keys() == {"type", "parameters"}
        return content


@pytest.fixture
def peer() -> Peer:
    peer = Peer()
    peer.open()
    return peer


def test_open_is_answered_with_the_media_that_we_take() -> None:
    peer = Peer()
    l16 = {**EXTERNAL, "format": "L16"}
    both = {**EXTERNAL, "channels": ["external", "internal"]}
    frame = peer.open([both, l16, EXTERNAL])
    assert frame == CallStartedFrame(
        provider="genesys",
        call_id=CONVERSATION,
        stream_id=SESSION,
        account_id="d7934305-0972-4844-938e-9060eef73d05",
        from_number="+15551234567",
        to_number="+15557654321",
        parameters={"token": "3f9c"},
        encoding="PCMU",
        sample_rate=8000,
    )
    again = peer.receive(frame)
    assert again == {"type": "opened", "parameters": {"startPaused": False, "media": [EXTERNAL]}}


def test_a_probe_is_no_call() -> None:
    frame = Peer().open(conversationId=NULL_UUID, participant={"id": NULL_UUID})
    assert frame.is_probe
    assert not Peer().open().is_probe


@pytest.mark.parametrize(
    "media",
    [
        [],
        None,
        "audio",
        [5],
        [{**EXTERNAL, "rate": 16000}],
        [{**EXTERNAL, "format": "OPUS"}],
        [{**EXTERNAL, "channels": ["internal"]}],
        [{**EXTERNAL, "channels": []}],
    ],
)
def test_an_open_without_the_callers_audio_is_refused(media: Any) -> None:
    peer = Peer()
    with pytest.raises(UnusableStart, match="expected an offer"):
        peer.send("open", conversationId=CONVERSATION, participant={"id": "p"}, media=media)
    refusal = peer.receive(CancelFrame("expected another offer", CloseCode.BAD_DATA))
    assert refusal == {
        "type": "disconnect",
        "parameters": {"reason": "error", "info": "expected another offer"},
    }
    assert peer.serializer.deserialize(b"\1") is None
    close = peer.send("close", reason="disconnect")
    assert close == CallEndedFrame("", "disconnect")
    assert peer.receive(close) == {"type": "closed", "parameters": {}}


def test_what_describes_an_offer_may_be_written_in_other_ways() -> None:
    peer = Peer()
    offer = {**EXTERNAL, "format": "pcmu", "rate": "8000"}
    frame = peer.open([offer], participant=None)
    assert (frame.encoding, frame.from_number) == ("PCMU", "")
    # The answer is the offer as it was made.
    assert peer.receive(frame)["parameters"]["media"] == [offer]


def test_languages_are_offered_and_followed() -> None:
    peer = Peer(supported_languages=["en-US", "de-DE"])
    frame = peer.open()
    assert frame.parameters == {"token": "3f9c", "language": "en-US"}
    assert peer.receive(frame)["parameters"]["supportedLanguages"] == ["en-US", "de-DE"]
    update = peer.send("update", language="de-DE")
    assert update == ProtocolRequestFrame("update", {"language": "de-DE"})
    assert peer.receive(update) == {"type": "updated", "parameters": {}}


def test_a_stream_may_begin_paused() -> None:
    peer = Peer(start_paused=True)
    frame = peer.open()
    assert peer.receive(frame)["parameters"]["startPaused"] is True
    assert peer.serializer.is_paused
    resume = OutputTransportMessageUrgentFrame({"type": "resume"})
    assert peer.receive(resume) == {"type": "resume", "parameters": {}}
    assert peer.send("resumed") is None
    assert not peer.serializer.is_paused


@pytest.mark.parametrize(
    "goodbye", [EndFrame(), OutputTransportMessageUrgentFrame({"type": "disconnect"})]
)
def test_the_goodbye_carries_what_the_flow_is_told(peer: Peer, goodbye: Frame) -> None:
    peer.serializer.output_variables["intent"] = "billing"
    parameters = peer.receive(goodbye)["parameters"]
    assert parameters["outputVariables"] == {"intent": "billing"}


def test_the_caller_alone_is_heard_where_both_sides_are_sent() -> None:
    offers = ((["external", "internal"], b"\1\3"), (["internal", "external"], b"\2\4"))
    for channels, heard in offers:
        peer = Peer()
        peer.open([{**EXTERNAL, "channels": channels}])
        frame = peer.serializer.deserialize(b"\1\2\3\4")
        assert frame == InputAudioRawFrame(decode_ulaw(heard), 8000)


def test_l16_where_nothing_else_is_offered() -> None:
    peer = Peer()
    peer.open([{**EXTERNAL, "format": "L16"}])
    assert peer.serializer.deserialize(b"\1\2") == InputAudioRawFrame(b"\1\2", 8000)
    assert peer.serializer.serialize(OutputAudioRawFrame(b"\1\2", 8000)) == b"\1\2"


def test_requests_and_their_answers(peer: Peer) -> None:
    ping = peer.send("ping", rtt="PT0.1S")
    assert isinstance(ping, PingFrame)
    assert peer.receive(PongFrame(ping.id)) == {"type": "pong", "parameters": {}}
    update = peer.send("update", language="de-DE")
    assert update == ProtocolRequestFrame("update")
    assert peer.receive(update) == {"type": "updated", "parameters": {}}
    assert peer.send("dtmf", digit="7") == InputDTMFFrame("7")
    close = peer.send("close", reason="end")
    assert close == CallEndedFrame(CONVERSATION, "end")
    assert peer.receive(close) == {"type": "closed", "parameters": {}}
    assert peer.serializer.serialize(close) is None


def test_pause_comes_from_the_server_and_is_reported_by_the_client(peer: Peer) -> None:
    pause = OutputTransportMessageUrgentFrame({"type": "pause"})
    assert peer.receive(pause) == {"type": "pause", "parameters": {}}
    paused = []
    assert peer.send("paused") is None
    paused.append(peer.serializer.is_paused)
    assert peer.send("discarded", start="PT1S", discarded="PT2S") is None
    resume = OutputTransportMessageUrgentFrame({"type": "resume"})
    assert peer.receive(resume) == {"type": "resume", "parameters": {}}
    assert peer.send("resumed", start="PT1S", discarded="PT2S") is None
    paused.append(peer.serializer.is_paused)
    assert paused == [True, False]
    assert peer.send("playback_started") is None
    assert peer.send("playback_completed") is None
    assert peer.serializer.unknown_events == 0


def test_an_interruption_is_a_barge_in(peer: Peer) -> None:
    assert peer.receive(InterruptionFrame()) == {
        "type": "event",
        "parameters": {"entities": [{"type": "barge_in", "data": {}}]},
    }


def test_an_application_sends_events_and_no_answers(peer: Peer) -> None:
    entity = {"type": "bot_turn_response", "data": {"disposition": "match", "text": "yes"}}
    parameters = {"entities": [entity]}
    frame = OutputTransportMessageUrgentFrame({"type": "event", "parameters": parameters})
    assert peer.receive(frame) == {"type": "event", "parameters": parameters}
    forged = OutputTransportMessageUrgentFrame({"type": "opened"})
    assert peer.serializer.serialize(forged) is None


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (EndFrame(), "completed"),
        (EndFrame("done"), "completed"),
        (CancelFrame("no", 1008), "unauthorized"),
        (CancelFrame("broken", 1011), "error"),
    ],
)
def test_we_say_goodbye_once(peer: Peer, frame: EndFrame | CancelFrame, reason: str) -> None:
    parameters = {"reason": reason} | ({"info": frame.reason} if frame.reason else {})
    assert peer.receive(frame) == {"type": "disconnect", "parameters": parameters}
    assert peer.serializer.serialize(frame) is None
    close = peer.send("close", reason="disconnect")
    assert close is not None
    assert peer.receive(close)["type"] == "closed"


def test_goodbye_with_output_variables_is_the_applications(peer: Peer) -> None:
    parameters = {"reason": "completed", "outputVariables": {"intent": "pay"}}
    frame = OutputTransportMessageUrgentFrame({"type": "disconnect", "parameters": parameters})
    assert peer.receive(frame) == {"type": "disconnect", "parameters": parameters}
    assert peer.serializer.serialize(EndFrame()) is None


def test_errors_are_told_by_their_code(peer: Peer) -> None:
    frame = peer.send("error", code=429, message="secret", retryAfter="PT3S")
    assert frame == ErrorFrame("Genesys reports error 429", processor="genesys")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": "1"}, "version 2"),
        ({"seq": 1}, "expected seq 2, found 1"),
        ({"seq": 3}, "expected seq 2, found 3"),
        ({"serverseq": 2}, "serverseq up to 1, found 2"),
        ({"serverseq": -1}, "serverseq up to 1, found -1"),
        ({"id": "another"}, "found another"),
        ({"parameters": []}, "Expected `object`"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused(
    peer: Peer, change: dict[str, Any], error: str
) -> None:
    message = {"version": "2", "type": "ping", "id": SESSION, "seq": 2, "serverseq": 1}
    with pytest.raises(InvalidMessage, match=error):
        peer.serializer.deserialize(json.dumps(message | change))


def test_audio_in_messages_of_a_quarter_of_a_second() -> None:
    peer = Peer()
    peer.open()
    assert peer.serializer.packet_bytes == 4000
    pcm = bytes(range(160)) * 25
    assert peer.serializer.serialize(OutputAudioRawFrame(pcm, 8000)) == encode_ulaw(pcm)


def test_audio_beyond_the_rate_limit_waits_for_the_next_message() -> None:
    now = [100.0]
    peer = Peer(clock=lambda: now[0])
    peer.open()
    packet = OutputAudioRawFrame(bytes(320), 8000)

    def sent() -> int | None:
        data = peer.serializer.serialize(packet)
        return None if data is None else len(data)

    assert [sent() for _ in range(26)] == [160] * 25 + [None]
    assert sent() is None
    now[0] += 0.2
    assert sent() == 3 * 160
    assert sent() is None
    mark = peer.serializer.serialize(MarkFrame("end", 1.0))
    assert mark == b"\xff" * 160
    assert peer.serializer.serialize(MarkFrame("end", 1.0)) is None
    assert sent() is None
    peer.receive(InterruptionFrame())
    assert peer.serializer.serialize(MarkFrame("end", 1.0)) is None


def test_no_message_is_longer_than_genesys_takes() -> None:
    now = [0.0]
    peer = Peer(clock=lambda: now[0])
    peer.open()
    packet = OutputAudioRawFrame(bytes(20_000), 8000)
    sizes = [peer.serializer.serialize(packet) for _ in range(100)]
    assert sum(data is not None for data in sizes) == 25
    now[0] += 1
    last = peer.serializer.serialize(packet)
    assert isinstance(last, bytes)
    assert len(last) == 64_000


@pytest.mark.parametrize("secs", [0.0, 0.1, 5.0])
def test_a_packet_that_the_limits_do_not_allow_is_refused(secs: float) -> None:
    with pytest.raises(ConfigurationError, match=r"packet_secs: expected 0\.2 to 3"):
        GenesysSerializer(packet_secs=secs)


def test_rate_limit_fills_again() -> None:
    limit = RateLimit(2.0, 3.0)
    assert [limit.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.take(10.5), limit.take(10.5)] == [True, False]
    assert [limit.take(100.0) for _ in range(4)] == [True, True, True, False]
