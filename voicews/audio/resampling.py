"""Sample rate conversion of live PCM, with a small and constant latency.

A polyphase FIR filter: a windowed sinc, cut for every fraction of an input sample that an output
sample can fall on. The length is the compromise: 15 zero crossings on each side of the sinc, at
the slower of the two rates, are 1.9 ms of latency at 8 kHz (0.9 ms at 16 kHz) and leave room for
a flat pass band up to 83 % of that rate's Nyquist frequency (3.3 kHz of 4 kHz, more than a phone
line carries) and more than 60 dB of rejection from 10 % above it. A steeper filter would keep
more of the last octave's edge, and be later by as much.

Kaiser's design formulas: Oppenheim and Schafer, Discrete-Time Signal Processing, section 7.5.

The sums are exact. Coefficients are multiples of 2**-24 and samples are whole numbers, so that
every product and partial sum fits the 53 bits of a double: the order in which a BLAS adds them
can't matter, and the output bytes are the same however the input is cut into chunks, on every
machine. In single precision they would not be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16, check_sample_rate, check_whole_frames

__all__ = [
    "Resampler",
]

_ZERO_CROSSINGS: Final = 15
_KAISER_BETA: Final = 6.3
_CUTOFF: Final = 0.965
"""Middle of the transition band, as a part of the slower rate's Nyquist frequency."""

_COEFFICIENT_SCALE: Final = float(2**24)
_MAX_PHASES: Final = 4096
_BLOCK_FRAMES: Final = 20
_MAX_BLOCK_COEFFICIENTS: Final = 65_536
# A larger product wakes the threads of OpenBLAS, which then spin for tens of milliseconds and
# take a core from the calls; on a busy machine the product itself waits for them as long.
_MAX_MULTIPLICATIONS: Final = 250_000

_LOWEST: Final = np.array(-32768.0)
_HIGHEST: Final = np.array(32767.0)

_Matrix = NDArray[np.float64]


class Resampler:
    """Converts a stream of PCM16LE from `input_rate` to `output_rate` (Hz), chunk by chunk.

    A chunk may have any length, and the output doesn't depend on how the stream was cut. Output
    sample n is the input at the time n / output_rate; it comes out as soon as the input reaches
    `latency_secs` beyond that time. So the first chunk gives that much less than its own
    duration, each later one its own duration to within a sample, and `flush` gives the rest.
    Samples beyond full scale are clipped. Not for use from several threads at once.

    Raises `AudioFormatError` for a rate outside 4000 to 192000 Hz and for fewer than 1 channel.
    The first use of a pair of rates in a process takes some milliseconds to design its filter.
    """

    __slots__ = (
        "_filter",
        "_frame_bytes",
        "_future",
        "_pending",
        "_phase",
        "input_rate",
        "num_channels",
        "output_rate",
    )

    def __init__(self, input_rate: int, output_rate: int, num_channels: int = 1) -> None:
        check_sample_rate(input_rate)
        check_sample_rate(output_rate)
        check_whole_frames(b"", num_channels)
        self.input_rate = input_rate
        self.output_rate = output_rate
        self.num_channels = num_channels
        self._frame_bytes = BYTES_PER_SAMPLE * num_channels
        self._filter = None if input_rate == output_rate else _design(input_rate, output_rate)
        # Zeros for the samples that the last window of a call may need but never uses.
        self._future = bytes(self._filter.width * self._frame_bytes) if self._filter else b""
        self.reset()

    def __repr__(self) -> str:
        return f"Resampler({self.input_rate}, {self.output_rate}, num_channels={self.num_channels})"

    @property
    def latency_secs(self) -> float:
        """How far the output stays behind the input, in seconds: constant, 0 for equal rates."""
        return self._filter.half / self.input_rate if self._filter else 0.0

    def reset(self) -> None:
        """Forget the stream: the next chunk is the first of a new one, after silence."""
        # The input from the start of the next output sample's window on, and where in it that
        # sample lies, in units of 1/up of an input sample.
        past = self._filter.half - 1 if self._filter else 0
        self._pending = bytes(past * self._frame_bytes)
        self._phase = 0

    def process(self, pcm: bytes) -> bytes:
        """Convert the next chunk: interleaved PCM16LE in, interleaved PCM16LE out.

        Equal rates give `pcm` itself back. Raises `AudioFormatError` for a split sample; the
        stream is then as it was before the call.
        """
        if len(pcm) % self._frame_bytes:
            check_whole_frames(pcm, self.num_channels)
        filter_ = self._filter
        if filter_ is None:
            return pcm
        pending = self._pending + pcm
        last_window = len(pending) // self._frame_bytes - filter_.taps
        count = -((self._phase - (last_window + 1) * filter_.up) // filter_.down)
        if count <= 0:
            self._pending = pending
            return b""
        samples = filter_.render(pending + self._future, self.num_channels, self._phase, count)
        np.rint(samples, out=samples)
        np.minimum(samples, _HIGHEST, out=samples)
        np.maximum(samples, _LOWEST, out=samples)
        phase = self._phase + count * filter_.down
        consumed = phase // (filter_.up * filter_.step) * filter_.step
        self._phase = phase - consumed * filter_.up
        self._pending = pending[consumed * self._frame_bytes :]
        return samples.T.astype(INT16).tobytes()

    def flush(self) -> bytes:
        """End the stream: the output that was still held back; then as after `reset`.

        After it, the output has been exactly as long as the input, rounded up to a whole sample.
        """
        if self._filter is None:
            return b""
        tail = self.process(bytes(self._filter.half * self._frame_bytes))
        self.reset()
        return tail


class _Filter(Protocol):
    """A filter for one ratio: `up` output samples take the time of `down` input samples.

    `half` is its reach in input samples to each side, `taps` twice that, `width` the longest
    window that it reads, and `step` the input samples by which its window may start later.
    """

    @property
    def up(self) -> int: ...
    @property
    def down(self) -> int: ...
    @property
    def half(self) -> int: ...
    @property
    def taps(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def step(self) -> int: ...

    def render(self, pending: bytes, num_channels: int, phase: int, count: int) -> _Matrix:
        """The next `count` output samples, an array [channels, count], neither rounded nor clipped.

        `pending` is PCM16LE that starts where the window of phase 0 does.
        """


@dataclass(frozen=True, slots=True)
class _BlockFilter:
    """For simple ratios: whole periods at once, as one matrix product.

    Row b of the left matrix is the window of block b, column q of the right one the taps of
    output sample q of a block, zero elsewhere. The multiplications by zero cost less than a
    second call from Python would. A block that is not complete yet is computed again next time.
    """

    up: int
    down: int
    half: int
    step: int
    matrix: _Matrix

    @property
    def taps(self) -> int:
        return 2 * self.half

    @property
    def width(self) -> int:
        return int(self.matrix.shape[0])

    def render(self, pending: bytes, num_channels: int, phase: int, count: int) -> _Matrix:
        width, block = self.matrix.shape
        done = phase // self.down
        blocks = -(-(done + count) // block)
        frame_bytes = BYTES_PER_SAMPLE * num_channels
        # Built directly: as_strided() and sliding_window_view() cost more than the product.
        windows: NDArray[np.int16] = np.ndarray(
            (num_channels, blocks, width),
            INT16,
            pending,
            0,
            (BYTES_PER_SAMPLE, self.step * frame_bytes, frame_bytes),
        )
        at_once = max(1, _MAX_MULTIPLICATIONS // self.matrix.size)
        product: _Matrix
        if blocks <= at_once:
            product = np.matmul(windows.astype(np.float64), self.matrix)
        else:
            parts = [windows[:, n : n + at_once] for n in range(0, blocks, at_once)]
            product = np.concatenate(
                [np.matmul(part.astype(np.float64), self.matrix) for part in parts], axis=1
            )
        return product.reshape(num_channels, -1)[:, done : done + count]


@dataclass(frozen=True, slots=True)
class _PhaseFilter:
    """For ratios with a long period (441:160): each output sample's window and taps are gathered.

    `table` has a row of taps for each of the `up` phases, or for fewer, which are then the
    nearest ones: the error stays below -70 dB, and no pair of rates can make the table large.
    """

    up: int
    down: int
    half: int
    table: _Matrix

    @property
    def taps(self) -> int:
        return 2 * self.half

    @property
    def width(self) -> int:
        return self.taps

    @property
    def step(self) -> int:
        return 1

    def render(self, pending: bytes, num_channels: int, phase: int, count: int) -> _Matrix:
        starts, phases = np.divmod(np.arange(count) * self.down + phase, self.up)
        if len(self.table) < self.up:
            phases = phases * len(self.table) // self.up
        samples = np.frombuffer(pending, INT16).reshape(-1, num_channels)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.taps, axis=0)
        gathered = windows[starts].astype(np.float64)
        product: _Matrix = np.matmul(gathered, self.table[phases][:, :, np.newaxis])
        return product[:, :, 0].T


@lru_cache(maxsize=64)
def _design(input_rate: int, output_rate: int) -> _Filter:
    divisor = math.gcd(input_rate, output_rate)
    up, down = output_rate // divisor, input_rate // divisor
    # Rates in units of the input's: the slower of the two sets the length and the cut-off.
    slower = min(1.0, up / down)
    half = math.ceil(_ZERO_CROSSINGS / slower)

    periods = max(1, _BLOCK_FRAMES // max(up, down))
    block = periods * up
    width = (block - 1) * down // up + 2 * half
    if width * block <= _MAX_BLOCK_COEFFICIENTS:
        table = _phase_taps(np.arange(up) / up, half, slower)
        matrix = np.zeros((width, block))
        for output in range(block):
            start, phase = divmod(output * down, up)
            matrix[start : start + 2 * half, output] = table[phase]
        matrix.setflags(write=False)
        return _BlockFilter(up, down, half, periods * down, matrix)

    # The slower the output, the less of the input's band is left and the coarser phases may be.
    phases = math.ceil(_MAX_PHASES * slower)
    fractions = np.arange(up) / up if up <= phases else (np.arange(phases) + 0.5) / phases
    table = _phase_taps(fractions, half, slower)
    table.setflags(write=False)
    return _PhaseFilter(up, down, half, table)


def _phase_taps(fractions: _Matrix, half: int, slower: float) -> _Matrix:
    """Taps for output samples that lie `fractions` of an input sample late: [fractions, 2 * half].

    Each row adds up to 1, so that a constant stays constant; the values are multiples of 2**-24.
    """
    times = np.arange(1 - half, half + 1) - fractions[:, np.newaxis]
    reach = _ZERO_CROSSINGS / slower
    inside = np.maximum(0.0, 1.0 - (times / reach) ** 2)
    taps = np.sinc(times * slower * _CUTOFF) * np.i0(_KAISER_BETA * np.sqrt(inside))
    taps[inside == 0.0] = 0.0
    taps /= taps.sum(axis=1, keepdims=True)
    rounded: _Matrix = np.rint(taps * _COEFFICIENT_SCALE) / _COEFFICIENT_SCALE
    return rounded
