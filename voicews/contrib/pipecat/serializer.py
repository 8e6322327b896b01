"""Pipecat's serializers on our sockets."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from pipecat.clocks.system_clock import SystemClock
from pipecat.processors.frame_processor import FrameProcessorSetup

from voicews.contrib.pipecat.conversion import input_from_pipecat, output_to_pipecat
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import (
    Frame,
    InputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    PongFrame,
)
from voicews.serializers.base import FrameSerializer
from voicews.serializers.protobuf import EXTENSION_LABEL, decode_extension, pong_message


class PipecatSerializer(FrameSerializer):
    """Speaks the protocol of a Pipecat `FrameSerializer`.

    Its methods are coroutines, but a serializer has nothing to wait for; one that waits raises
    `ConfigurationError`. It is set up with the sample rates (Hz) given here and, having no Pipecat
    pipeline around it, nothing else. `sample_rate` is that of the audio on the wire, where the
    protocol fixes one. Calls are hung up by our telephony, so turn `auto_hang_up` off.
    """

    def __init__(
        self,
        serializer: Any,
        *,
        audio_in_sample_rate: int = 16000,
        audio_out_sample_rate: int = 24000,
        sample_rate: int | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self._serializer = serializer
        self._name = type(serializer).__name__
        setup = FrameProcessorSetup(
            clock=SystemClock(),
            task_manager=None,
            pipeline_worker=None,
            audio_in_sample_rate=audio_in_sample_rate,
            audio_out_sample_rate=audio_out_sample_rate,
        )
        self._finish(serializer.setup(setup), "setup")

    def serialize(self, frame: Frame) -> str | bytes | None:
        if isinstance(frame, PongFrame):
            frame = OutputTransportMessageUrgentFrame(pong_message(frame))
        converted = output_to_pipecat(frame)
        if converted is None:
            return None
        data: str | bytes | None = self._finish(self._serializer.serialize(converted), "serialize")
        return data

    def deserialize(self, data: str | bytes) -> Frame | None:
        try:
            frame = self._finish(self._serializer.deserialize(data), "deserialize")
        except ConfigurationError:
            raise
        except Exception as error:
            raise InvalidMessage(
                f"expected a message of {self._name}, found one that raised {type(error).__name__}"
            ) from error
        converted = input_from_pipecat(frame)
        if (
            isinstance(converted, InputTransportMessageFrame)
            and converted.message.get("label") == EXTENSION_LABEL
        ):
            return decode_extension(converted.message)
        return converted

    def _finish(self, coroutine: Coroutine[Any, Any, Any], method: str) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as finished:
            return finished.value
        coroutine.close()
        raise ConfigurationError(
            f"expected {self._name}.{method}() to answer at once, found that it waits for something"
        )
