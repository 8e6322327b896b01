from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import RATES, chunks, pcm, samples, signal_to_noise, tone, white_noise
from voicews.audio.resampling import Resampler
from voicews.exceptions import AudioFormatError

PAIRS = list(itertools.permutations(RATES, 2))
# Long periods that don't fit a matrix, and phases that don't fit a table.
ODD_PAIRS = [(44100, 44101), (12347, 16000), (192000, 4000), (4000, 192000), (48000, 8001)]


def resample(pcm_in: bytes, input_rate: int, output_rate: int, num_channels: int = 1) -> bytes:
    resampler = Resampler(input_rate, output_rate, num_channels)
    return resampler.process(pcm_in) + resampler.flush()


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS + ODD_PAIRS)
def test_a_tone_keeps_its_level_its_phase_and_its_purity(input_rate: int, output_rate: int) -> None:
    for part in (0.05, 0.4, 0.8):
        hz = part * min(input_rate, output_rate) / 2
        out = samples(resample(pcm(tone(hz, 0.3, input_rate)), input_rate, output_rate))
        # The ends, where the tone begins and stops at once, are no steady tone.
        margin = round(output_rate * 0.01)
        ratio, (amplitude, _) = signal_to_noise(out[margin:-margin], hz, output_rate)
        assert ratio >= 60.0
        assert amplitude == pytest.approx(0.5, rel=0.01)
        expected = tone(hz, 0.3, output_rate)[margin : len(out) - margin]
        assert np.abs(out[margin : margin + len(expected)] - expected).max() < 0.5 * 0.012


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_latency_is_constant_and_2_ms_at_most(input_rate: int, output_rate: int) -> None:
    resampler = Resampler(input_rate, output_rate)
    assert 0.0 < resampler.latency_secs <= 0.002
    frames_in = bytes_out = 0
    for count in [input_rate // 50] * 20 + [input_rate // 200] * 20:
        frames_in += count
        out = resampler.process(bytes(count * 2))
        assert out
        bytes_out += len(out)
        behind = frames_in / input_rate - bytes_out / 2 / output_rate
        assert behind == pytest.approx(resampler.latency_secs, abs=1.0 / output_rate)


def test_latency_is_what_a_click_shows() -> None:
    resampler = Resampler(8000, 24000)
    click = np.zeros(800)
    click[400] = 0.9
    out = samples(resampler.process(pcm(click)) + resampler.flush())
    assert int(np.argmax(out)) == 1200


@pytest.mark.parametrize(
    ("input_rate", "output_rate", "hz"),
    [
        (24000, 8000, 6000),
        (24000, 8000, 4400),
        (16000, 8000, 5000),
        (48000, 16000, 9000),
        (44100, 16000, 10000),
        (48000, 24000, 14000),
        (24000, 16000, 9000),
        (44100, 8000, 7000),
    ],
)
def test_what_the_output_cannot_hold_is_rejected(
    input_rate: int, output_rate: int, hz: float
) -> None:
    out = samples(resample(pcm(tone(hz, 0.3, input_rate)), input_rate, output_rate))
    middle = out[len(out) // 4 : -len(out) // 4]
    power = float(np.mean(middle**2)) / (0.5**2 / 2)
    assert 10 * math.log10(max(power, 1e-12)) < -60.0


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS + ODD_PAIRS)
@pytest.mark.parametrize("frames", [0, 1, 7, 160, 4001])
def test_the_output_is_as_long_as_the_input(input_rate: int, output_rate: int, frames: int) -> None:
    out = resample(bytes(frames * 2), input_rate, output_rate)
    assert len(out) // 2 == math.ceil(frames * output_rate / input_rate)


@settings(max_examples=60, deadline=None)
@given(
    pair=st.sampled_from([(16000, 24000), (24000, 16000), (8000, 16000), (24000, 8000)])
    | st.sampled_from([(44100, 16000), (16000, 44100), (11025, 8000), (12347, 16000)])
    | st.sampled_from([(48000, 44100), (22050, 24000)]),
    num_channels=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8),
    seed=st.integers(0, 2**16),
)
def test_any_split_of_the_input_gives_the_same_bytes(
    pair: tuple[int, int], num_channels: int, sizes: list[int], seed: int
) -> None:
    loud = pcm(white_noise(0.1, 16000 * num_channels, -8.0, seed))
    whole = resample(loud, *pair, num_channels)
    resampler = Resampler(*pair, num_channels)
    parts = [resampler.process(chunk) for chunk in chunks(loud, sizes, 2 * num_channels)]
    assert b"".join(parts) + resampler.flush() == whole


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(("input_rate", "output_rate"), [(16000, 24000), (44100, 48000)])
def test_a_long_chunk_gives_the_same_bytes(
    input_rate: int, output_rate: int, num_channels: int
) -> None:
    long = pcm(white_noise(3.0, input_rate * num_channels, -8.0))
    resampler = Resampler(input_rate, output_rate, num_channels)
    parts = [resampler.process(part) for part in chunks(long, [input_rate // 50], 2 * num_channels)]
    short = b"".join(parts) + resampler.flush()
    assert short == resample(long, input_rate, output_rate, num_channels)


@pytest.mark.parametrize(("input_rate", "output_rate"), [(16000, 24000), (44100, 16000)])
def test_channels_are_converted_apart(input_rate: int, output_rate: int) -> None:
    left = pcm(tone(300, 0.1, input_rate))
    right = pcm(white_noise(0.1, input_rate, -20.0))
    both = np.stack([np.frombuffer(left, "<i2"), np.frombuffer(right, "<i2")], axis=1).tobytes()
    out = np.frombuffer(resample(both, input_rate, output_rate, 2), "<i2").reshape(-1, 2)
    assert out[:, 0].tobytes() == resample(left, input_rate, output_rate)
    assert out[:, 1].tobytes() == resample(right, input_rate, output_rate)


@pytest.mark.parametrize(("input_rate", "output_rate"), [(16000, 24000), (44100, 16000)])
def test_too_loud_is_clipped_and_never_wraps(input_rate: int, output_rate: int) -> None:
    square = np.sign(tone(200, 0.1, input_rate))
    out = samples(resample(pcm(square), input_rate, output_rate))
    ideal = np.sign(tone(200, 0.1, output_rate))[: len(out)]
    assert out.max() == 32767 / 32768
    assert out.min() == -1.0
    # A sample that had wrapped would be on the wrong side by about 2.0, far from any edge.
    edges = np.abs(tone(200, 0.1, output_rate, 1.0))[: len(out)] < 0.4
    inside = slice(40, -40)
    assert np.abs(out - ideal)[inside][~edges[inside]].max() < 0.2


@pytest.mark.parametrize(("input_rate", "output_rate"), [(8000, 24000), (48000, 22050)])
def test_a_constant_stays_constant(input_rate: int, output_rate: int) -> None:
    level = 12345
    out = resample(np.full(2000, level, "<i2").tobytes(), input_rate, output_rate)
    values = np.frombuffer(out, "<i2")
    assert set(values[200:-200].tolist()) == {level}


def test_equal_rates_pass_the_same_object_through() -> None:
    resampler = Resampler(16000, 16000, 2)
    chunk = bytes(range(64))
    assert resampler.process(chunk) is chunk
    assert resampler.flush() == b""
    assert resampler.latency_secs == 0.0
    with pytest.raises(AudioFormatError, match="multiple of 4 bytes, found 6"):
        resampler.process(bytes(6))


def test_flush_and_reset_begin_a_new_stream() -> None:
    resampler = Resampler(16000, 24000)
    chunk = pcm(white_noise(0.033, 16000, -10.0))
    first = resampler.process(chunk) + resampler.flush()
    assert resampler.flush() == b""
    assert resampler.process(chunk) + resampler.flush() == first
    resampler.process(chunk)
    resampler.reset()
    assert resampler.process(chunk) + resampler.flush() == first


@pytest.mark.parametrize(("num_channels", "size"), [(1, 3), (2, 6), (2, 7), (3, 4)])
def test_a_split_sample_is_refused_and_changes_nothing(num_channels: int, size: int) -> None:
    resampler = Resampler(16000, 24000, num_channels)
    chunk = pcm(white_noise(0.06, 16000, -10.0))[: 1800 // (2 * num_channels) * 2 * num_channels]
    with pytest.raises(AudioFormatError, match=rf"multiple of {2 * num_channels} bytes"):
        resampler.process(bytes(size))
    out = resampler.process(chunk) + resampler.flush()
    assert out == resample(chunk, 16000, 24000, num_channels)


@pytest.mark.parametrize("rate", [0, -8000, 3999, 192001])
def test_rates_out_of_range_are_refused(rate: int) -> None:
    with pytest.raises(AudioFormatError, match=f"expected 4000 to 192000 Hz, found {rate}"):
        Resampler(rate, 16000)
    with pytest.raises(AudioFormatError, match=f"expected 4000 to 192000 Hz, found {rate}"):
        Resampler(16000, rate)


def test_channels_below_1_are_refused() -> None:
    with pytest.raises(AudioFormatError, match="num_channels"):
        Resampler(8000, 16000, 0)


def test_state_stays_small() -> None:
    resampler = Resampler(44100, 16000)
    for _ in range(200):
        resampler.process(bytes(1764))
    assert len(resampler._pending) < 4000
