"""What a caller said, cut out of the stream: from a little before the speech to a little after."""

from __future__ import annotations

from typing import Final

from voicews.audio.pcm import BYTES_PER_SAMPLE, check_sample_rate, check_whole_frames
from voicews.exceptions import ConfigurationError, InvalidState

__all__ = [
    "UtteranceBuffer",
]

_KEPT_SILENCE_SECS: Final = 0.2


class UtteranceBuffer:
    """Collects one utterance at a time from a stream of mono PCM16LE.

    Append every chunk, speech or not; call `start` and `stop` when the voice activity detection
    says so. Outside an utterance it holds the last `pre_roll_secs`, which `start` puts before the
    utterance because speech is detected after it began. An utterance holds at most `max_secs`
    with its pre-roll: its beginning is kept, what comes after is not, and `is_full` tells, so
    that the owner may stop and start for a very long speech.

    Raises `ConfigurationError` for a negative pre-roll or a `max_secs` that is not longer.
    """

    def __init__(
        self, sample_rate: int, pre_roll_secs: float = 0.3, max_secs: float = 60.0
    ) -> None:
        check_sample_rate(sample_rate)
        if not 0 <= pre_roll_secs < max_secs:
            raise ConfigurationError(
                "expected 0 <= pre_roll_secs < max_secs, "
                f"found pre_roll_secs {pre_roll_secs}, max_secs {max_secs}"
            )
        self.sample_rate = sample_rate
        #: How much later than after `pre_roll_secs` it may turn out that this was speech.
        self.lookback_secs = 0.0
        self._pre_roll_bytes = self._to_bytes(pre_roll_secs)
        self._max_bytes = self._to_bytes(max_secs)
        self.reset()

    @property
    def is_active(self) -> bool:
        """Between `start` and `stop`."""
        return self._active

    @property
    def is_full(self) -> bool:
        """The utterance has reached `max_secs`."""
        return self._active and len(self._audio) >= self._max_bytes

    @property
    def duration_secs(self) -> float:
        """How much is held, in seconds: the pre-roll so far, or the utterance with it."""
        return len(self._audio) / (BYTES_PER_SAMPLE * self.sample_rate)

    def reset(self) -> None:
        """Forget everything, an utterance that has started too."""
        self._active = False
        self._audio = bytearray()
        self._lost_bytes = 0

    def append(self, pcm: bytes) -> None:
        """Take the next chunk of the stream; raises `AudioFormatError` for a split sample."""
        check_whole_frames(pcm)
        if self._active:
            kept = pcm[: self._max_bytes - len(self._audio)]
            self._audio += kept
            self._lost_bytes += len(pcm) - len(kept)
        else:
            self._audio += pcm
            # A bytearray only moves its start here: the cost doesn't depend on what it holds.
            kept_bytes = self._pre_roll_bytes + self._to_bytes(self.lookback_secs)
            del self._audio[: max(0, len(self._audio) - kept_bytes)]

    def start(self, voice_secs: float = 0.0) -> None:
        """Speech has started: the pre-roll becomes the utterance's beginning.

        `voice_secs` is how long ago the voice began (`detected_secs - edge_secs` of the event): of
        what `lookback_secs` kept, what is older than that is not part of the utterance. Raises
        `InvalidState` in an utterance.
        """
        if self._active:
            raise InvalidState("UtteranceBuffer: expected start() after stop(), found it twice")
        self._active = True
        begun_bytes = self._to_bytes(voice_secs + _KEPT_SILENCE_SECS)
        kept_bytes = max(self._pre_roll_bytes, begun_bytes)
        del self._audio[: max(0, len(self._audio) - kept_bytes)]

    def stop(self, silence_secs: float = 0.0) -> bytes:
        """Speech has stopped: the utterance as PCM16LE.

        `silence_secs` is how long ago the voice ended (`detected_secs - edge_secs` of the VAD
        event): all but the first 0.2 s of that are cut off, and are pre-roll for the next
        utterance. Raises `InvalidState` outside an utterance.
        """
        if not self._active:
            raise InvalidState("UtteranceBuffer: expected start() before stop()")
        surplus = self._to_bytes(max(0.0, silence_secs - _KEPT_SILENCE_SECS))
        # In a full buffer the end of the stream is missing, and with it some of the silence.
        end = len(self._audio) - max(0, surplus - self._lost_bytes)
        utterance = bytes(self._audio[: max(0, end)])
        rest = b"" if self._lost_bytes else bytes(self._audio[max(0, end) :])
        self.reset()
        self.append(rest)
        return utterance

    def _to_bytes(self, secs: float) -> int:
        return round(secs * self.sample_rate) * BYTES_PER_SAMPLE
