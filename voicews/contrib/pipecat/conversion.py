"""Our frames as Pipecat's, and Pipecat's as ours.

"Input" is what comes from the client, "output" what goes to it. A frame that the other side has
no word for gives None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames import frames as pipecat

from voicews import frames as ours
from voicews.audio.pcm import BYTES_PER_SAMPLE
from voicews.audio.wav import is_wav
from voicews.exceptions import InvalidMessage

#: Pipecat has no keys A to D.
KEYS = frozenset(key.value for key in KeypadEntry)


def input_to_pipecat(frame: ours.Frame) -> Any:
    """What the client did, for a Pipecat pipeline."""
    convert = _INPUT_TO_PIPECAT.get(type(frame))
    return None if convert is None else convert(frame)


def input_from_pipecat(frame: Any) -> ours.Frame | None:
    """What a Pipecat serializer has read. Raises `InvalidMessage` for what can't be right."""
    convert = _INPUT_FROM_PIPECAT.get(type(frame))
    return None if convert is None else convert(frame)


def output_to_pipecat(frame: ours.Frame) -> Any:
    """What is for the client, for a Pipecat serializer."""
    convert = _OUTPUT_TO_PIPECAT.get(type(frame))
    return None if convert is None else convert(frame)


def _audio_in_to_pipecat(frame: ours.InputAudioRawFrame) -> Any:
    return pipecat.InputAudioRawFrame(
        audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
    )


def _key_to_pipecat(frame: ours.InputDTMFFrame) -> Any:
    if frame.button not in KEYS:
        return None
    return pipecat.InputDTMFFrame(button=KeypadEntry(frame.button))


def _transcription_to_pipecat(frame: ours.TranscriptionFrame) -> Any:
    kind = pipecat.TranscriptionFrame if frame.final else pipecat.InterimTranscriptionFrame
    return kind(text=frame.text, user_id=frame.user_id, timestamp=frame.timestamp)


def _audio_from_pipecat(frame: Any) -> ours.Frame:
    channels = frame.num_channels
    if channels < 1 or (
        len(frame.audio) % (BYTES_PER_SAMPLE * channels) and not is_wav(frame.audio)
    ):
        raise InvalidMessage(
            f"expected whole 16-bit samples of 1 or more channels, found {len(frame.audio)} bytes "
            f"of {channels} channel(s)"
        )
    return ours.InputAudioRawFrame(frame.audio, frame.sample_rate, channels)


def _message_from_pipecat(frame: Any) -> ours.Frame:
    if not isinstance(frame.message, dict):
        raise InvalidMessage(f"expected a JSON object, found {type(frame.message).__name__}")
    return ours.InputTransportMessageFrame(frame.message)


_INPUT_TO_PIPECAT: dict[type[ours.Frame], Callable[[Any], Any]] = {
    ours.InputAudioRawFrame: _audio_in_to_pipecat,
    ours.InputTransportMessageFrame: lambda frame: pipecat.InputTransportMessageFrame(
        message=frame.message
    ),
    ours.InterruptionFrame: lambda frame: pipecat.InterruptionFrame(),
    # As Pipecat's own serializer reads it from a client.
    ours.InputTextFrame: lambda frame: pipecat.TextFrame(text=frame.text),
    ours.TranscriptionFrame: _transcription_to_pipecat,
    ours.InputDTMFFrame: _key_to_pipecat,
    ours.UserStartedSpeakingFrame: lambda frame: pipecat.VADUserStartedSpeakingFrame(
        start_secs=frame.detected_secs - frame.edge_secs
    ),
    ours.UserStoppedSpeakingFrame: lambda frame: pipecat.VADUserStoppedSpeakingFrame(
        stop_secs=frame.detected_secs - frame.edge_secs
    ),
}

_INPUT_FROM_PIPECAT: dict[type[Any], Callable[[Any], ours.Frame]] = {
    pipecat.InputAudioRawFrame: _audio_from_pipecat,
    pipecat.InputTransportMessageFrame: _message_from_pipecat,
    pipecat.InterruptionFrame: lambda frame: ours.InterruptionFrame(),
    pipecat.TextFrame: lambda frame: ours.InputTextFrame(frame.text),
    pipecat.TranscriptionFrame: lambda frame: ours.TranscriptionFrame(
        frame.text, frame.user_id, frame.timestamp
    ),
    pipecat.InterimTranscriptionFrame: lambda frame: ours.TranscriptionFrame(
        frame.text, frame.user_id, frame.timestamp, final=False
    ),
    pipecat.InputDTMFFrame: lambda frame: ours.InputDTMFFrame(frame.button.value),
}

_OUTPUT_TO_PIPECAT: dict[type[ours.Frame], Callable[[Any], Any]] = {
    ours.OutputAudioRawFrame: lambda frame: pipecat.OutputAudioRawFrame(
        audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
    ),
    ours.OutputTransportMessageFrame: lambda frame: pipecat.OutputTransportMessageFrame(
        message=frame.message
    ),
    ours.OutputTransportMessageUrgentFrame: (
        lambda frame: pipecat.OutputTransportMessageUrgentFrame(message=frame.message)
    ),
    ours.InterruptionFrame: lambda frame: pipecat.InterruptionFrame(),
    ours.TextFrame: lambda frame: pipecat.TextFrame(text=frame.text),
    ours.TranscriptionFrame: _transcription_to_pipecat,
}
