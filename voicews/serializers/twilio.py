"""Twilio Media Streams, bidirectional (`<Connect><Stream>`).

Source: twilio.com/docs/voice/media-streams/websocket-messages.
"""

from __future__ import annotations

import msgspec

from voicews.audio.codecs import get_codec
from voicews.exceptions import InvalidMessage
from voicews.frames import CallStartedFrame, Frame, InterruptionFrame, MarkFrame
from voicews.serializers.json_streams import JSONStreamSerializer, StartMessage, StreamMessage
from voicews.serializers.telephony import read_codec, read_parameters, to_json

_PCMU = get_codec("PCMU", 8000)


class _Message(StreamMessage, gc=False):
    stream_id: str = msgspec.field(name="streamSid", default="")


class TwilioSerializer(JSONStreamSerializer[_Message]):
    """JSON in text messages, mu-law of 8000 Hz in base64 both ways."""

    provider = "twilio"
    sample_rate = 8000
    _codec = _PCMU
    _decoder = msgspec.json.Decoder(_Message)

    def _serialize_event(self, frame: Frame) -> str | None:
        # Twilio refuses messages with a field too many or too few (31951).
        if isinstance(frame, MarkFrame):
            mark = {"name": frame.name}
            return to_json({"event": "mark", "streamSid": self._stream_id, "mark": mark})
        if isinstance(frame, InterruptionFrame):
            return to_json({"event": "clear", "streamSid": self._stream_id})
        return None

    def _start_stream(self, start: StartMessage) -> CallStartedFrame:
        if read_codec(self.provider, *start.media_format(), default=_PCMU).name != "PCMU":
            raise InvalidMessage("expected mu-law, found another encoding")
        stream_sid = start.id("streamSid")
        parameters = read_parameters(start.get("customParameters"))
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=start.id("callSid"),
            stream_id=stream_sid,
            account_id=start.text("accountSid"),
            from_number=parameters.get("from", ""),
            to_number=parameters.get("to", ""),
            parameters=parameters,
            encoding=_PCMU.name,
            sample_rate=_PCMU.sample_rate,
        )
        self._start(frame)
        self._media_prefix = f'{{"event":"media","streamSid":"{stream_sid}","media":{{"payload":"'
        return frame
