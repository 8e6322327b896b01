from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.audio.signals import pcm, samples, signal_to_noise, tone
from voicews.audio import mixers
from voicews.audio.mixers import SoundFileMixer
from voicews.audio.wav import wrap_wav
from voicews.exceptions import ConfigurationError
from voicews.frames import MixerEnableFrame, MixerUpdateSettingsFrame

RATE = 16000
CHUNK = 320


def write(path: Path, sound: bytes, rate: int, channels: int = 1) -> str:
    path.write_bytes(wrap_wav(sound, rate, channels))
    return str(path)


def started(mixer: SoundFileMixer, rate: int = RATE, channels: int = 1) -> SoundFileMixer:
    mixer.start(rate, channels)
    deadline = time.monotonic() + 10
    while not all(future.done() for future in mixers._loaded.values()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return mixer


def one(path: Path, hz: float = 1000, **options: Any) -> SoundFileMixer:
    """A mixer with one sound at full volume: a second of a tone of 0.5."""
    file = write(path / "one.wav", pcm(tone(hz, 1, RATE)), RATE)
    options = {"volume": 1.0, **options}
    return SoundFileMixer(sound_files={"one": file}, default_sound="one", **options)


def hear(
    mixer: SoundFileMixer, secs: float, rate: int = RATE, channels: int = 1
) -> NDArray[np.float64]:
    chunk = bytes(rate // 50 * 2 * channels)
    return samples(b"".join(mixer.mix(chunk) for _ in range(round(secs * 50))), channels)


def jumps(sound: NDArray[np.float64], hz: float, rate: int, amplitude: float) -> float:
    """The largest step between neighbours, in steps that a tone of this level makes."""
    return float(np.abs(np.diff(sound)).max() / (amplitude * 2 * np.pi * hz / rate))


class TestSound:
    @pytest.mark.parametrize("file_rate", [8000, 11025, 16000, 22050, 44100, 48000])
    @pytest.mark.parametrize("rate", [8000, 16000, 24000])
    def test_any_rate_over_the_seam_of_the_loop(
        self, tmp_path: Path, file_rate: int, rate: int
    ) -> None:
        secs = 1 if file_rate % 2 else 0.5
        file = write(tmp_path / "a.wav", pcm(tone(1000, secs, file_rate)), file_rate)
        mixer = SoundFileMixer(sound_files={"a": file}, default_sound="a", volume=0.5)
        heard = hear(started(mixer, rate), 4, rate)
        ratio, (amplitude, _) = signal_to_noise(heard[rate // 5 :], 1000, rate)
        assert ratio > 60
        assert amplitude == pytest.approx(0.25, rel=0.01)
        # No gap, no repeated sample, no click, wherever the loop begins again.
        assert jumps(heard[rate // 5 :], 1000, rate, 0.25) < 1.05

    @pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (1, 2), (2, 1), (2, 2), (6, 1)])
    def test_any_number_of_channels(self, tmp_path: Path, channels: int, wanted: int) -> None:
        wave = np.repeat(tone(500, 1, 48000)[:, np.newaxis], channels, axis=1)
        file = write(tmp_path / "a.wav", pcm(wave.ravel()), 48000, channels)
        mixer = SoundFileMixer(sound_files={"a": file}, default_sound="a", volume=1.0)
        heard = hear(started(mixer, RATE, wanted), 2, RATE, wanted).reshape(-1, wanted)
        for channel in heard.T:
            ratio, (amplitude, _) = signal_to_noise(channel[3200:], 500, RATE)
            assert ratio > 60
            assert amplitude == pytest.approx(0.5, rel=0.01)

    def test_a_sound_that_is_shorter_than_a_chunk(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.wav", pcm(tone(1000, 0.005, RATE)), RATE)
        mixer = SoundFileMixer(sound_files={"a": file}, default_sound="a", volume=1.0)
        heard = hear(started(mixer), 1)
        assert signal_to_noise(heard[3200:], 1000, RATE)[0] > 60

    def test_without_loop_it_plays_once(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, loop=False))
        heard = hear(mixer, 1.5)
        assert np.abs(heard[RATE // 2 : RATE]).max() == pytest.approx(0.5, rel=0.01)
        assert not heard[RATE:].any()

    def test_a_longer_loop_than_fits_the_circle(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mixers, "_MAX_CIRCLE_FRAMES", 1000)
        file = write(tmp_path / "a.wav", pcm(tone(1000, 1, 48000)), 48000)
        mixer = SoundFileMixer(sound_files={"a": file}, default_sound="a", volume=1.0)
        heard = hear(started(mixer), 3)
        assert signal_to_noise(heard[3200:], 1000, RATE)[0] > 60

    def test_what_is_said_is_not_changed_by_it(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, volume=0.5))
        speech = pcm(tone(440, 2, RATE, 0.3))
        cut = [speech[at : at + 640] for at in range(0, len(speech), 640)]
        heard = samples(b"".join(mixer.mix(chunk) for chunk in cut))
        rest = heard - samples(speech)
        ratio, (amplitude, _) = signal_to_noise(rest[3200:], 1000, RATE)
        assert ratio > 60
        assert amplitude == pytest.approx(0.25, rel=0.01)

    def test_too_loud_is_clipped_not_wrapped(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, volume=4.0))
        heard = hear(mixer, 1)[1600:]
        assert heard.max() == pytest.approx(1.0, abs=1e-4)
        assert heard.min() == -1.0
        assert np.sign(heard[5:9]).tolist() == np.sign(tone(1000, 1, RATE)[1605:1609]).tolist()


class TestSettings:
    def test_volume(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, volume=0.2))
        hear(mixer, 1)
        mixer.process_frame(MixerUpdateSettingsFrame({"volume": 0.8}))
        heard = hear(mixer, 1)
        assert np.abs(heard[:80]).max() < 0.2
        assert signal_to_noise(heard[3200:], 1000, RATE)[1][0] == pytest.approx(0.4, rel=0.01)
        assert jumps(heard, 1000, RATE, 0.4) < 1.05

    def test_off_and_on_again(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, mixing=False))
        speech = pcm(tone(440, 0.02, RATE))
        assert mixer.mix(speech) == speech
        mixer.process_frame(MixerEnableFrame(enable=True))
        heard = hear(mixer, 1)
        assert jumps(heard, 1000, RATE, 0.5) < 1.05
        assert np.abs(heard[1600:]).max() == pytest.approx(0.5, rel=0.01)
        mixer.process_frame(MixerEnableFrame(enable=False))
        heard = hear(mixer, 1)
        assert jumps(heard, 1000, RATE, 0.5) < 1.05
        assert not heard[1600:].any()
        assert mixer.mix(speech) == speech

    def test_a_switch_fades_one_over_the_other(self, tmp_path: Path) -> None:
        files = {
            "low": write(tmp_path / "low.wav", pcm(tone(400, 1, RATE)), RATE),
            "high": write(tmp_path / "high.wav", pcm(tone(2000, 1, 48000)), 48000),
        }
        mixer = SoundFileMixer(
            sound_files=files, default_sound="low", volume=1.0, crossfade_secs=0.4
        )
        hear(started(mixer), 1)
        mixer.process_frame(MixerUpdateSettingsFrame({"sound": "high"}))
        heard = hear(mixer, 2)
        # Neither falls silent in between, and no sample jumps.
        power = [np.sqrt(np.mean(part**2)) for part in heard[:6400].reshape(20, -1)]
        assert min(power) > 0.3
        assert max(power) < 0.4
        assert jumps(heard, 2000, RATE, 0.5) < 1.05
        assert signal_to_noise(heard[6400:], 2000, RATE)[0] > 60

    def test_ducking_while_the_bot_speaks(self, tmp_path: Path) -> None:
        mixer = started(one(tmp_path, ducking_db=20))
        assert np.abs(hear(mixer, 1)[1600:]).max() == pytest.approx(0.5, rel=0.01)
        said = b"\1\0" * CHUNK
        during = samples(b"".join(mixer.mix(said) for _ in range(50)))
        assert np.abs(during[RATE // 5 :]).max() == pytest.approx(0.05, rel=0.02)
        # A pause between two words is no end.
        pause = hear(mixer, 0.3)
        assert np.abs(pause).max() == pytest.approx(0.05, rel=0.02)
        after = hear(mixer, 1.5)
        assert np.abs(after[RATE:]).max() == pytest.approx(0.5, rel=0.01)
        assert jumps(after, 1000, RATE, 0.5) < 1.05

    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({"sound": "two"}, "sound: expected one of 'one', found 'two'"),
            ({"volume": -1}, "volume: expected >= 0, found -1"),
            ({"volume": float("nan")}, "volume: expected >= 0, found nan"),
            ({"ducking_db": -6}, "ducking_db: expected >= 0, found -6"),
            ({"speed": 2, "volume": 1}, "found 'speed'"),
        ],
    )
    def test_what_makes_no_sense_changes_nothing(
        self, tmp_path: Path, settings: dict[str, Any], error: str
    ) -> None:
        mixer = started(one(tmp_path))
        hear(mixer, 1)
        with pytest.raises(ConfigurationError, match=error):
            mixer.process_frame(MixerUpdateSettingsFrame(settings))
        assert np.abs(hear(mixer, 1)).max() == pytest.approx(0.5, rel=0.01)


class TestFiles:
    def test_is_read_once_a_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[Path] = []
        read = mixers._read

        def counting(path: Path, *options: Any) -> Any:
            reads.append(path)
            return read(path, *options)

        monkeypatch.setattr(mixers, "_read", counting)
        file = {"one": write(tmp_path / "a.wav", pcm(tone(1000, 1, 48000)), 48000)}
        first, second = (
            started(SoundFileMixer(sound_files=file, default_sound="one", volume=1.0))
            for _ in range(2)
        )
        assert len(reads) == 1
        # And each call hears it from its beginning.
        hear(first, 0.34)
        assert np.abs(hear(second, 1)).max() == pytest.approx(0.5, rel=0.01)

    def test_until_it_is_read_the_call_is_heard_without(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def slow(*_: Any) -> Any:
            time.sleep(0.2)
            raise OSError("gone")

        monkeypatch.setattr(mixers, "_read", slow)
        mixer = one(tmp_path)
        mixer.start(RATE)
        said = pcm(tone(440, 0.02, RATE))
        assert mixer.mix(said) == said
        started(mixer)
        # The error is raised once; the call goes on without the sound.
        with pytest.raises(OSError, match="gone"):
            hear(mixer, 0.02)
        assert mixer.mix(said) == said

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"sound 'a': expected a file, found none at"):
            SoundFileMixer(sound_files={"a": tmp_path / "none.wav"}, default_sound="a")

    def test_a_default_that_is_none_of_them(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected one of 'one', found 'two'"):
            SoundFileMixer(
                sound_files={"one": write(tmp_path / "a.wav", b"ab", RATE)}, default_sound="two"
            )

    def test_a_fade_of_negative_length(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="crossfade_secs >= 0, found -1"):
            one(tmp_path, crossfade_secs=-1)

    @pytest.mark.parametrize(("content", "error"), [(b"", "RIFF"), (wrap_wav(b"", RATE), "sound")])
    def test_one_that_is_no_sound(self, tmp_path: Path, content: bytes, error: str) -> None:
        path = tmp_path / "bad.wav"
        path.write_bytes(content)
        mixer = started(SoundFileMixer(sound_files={"a": path}, default_sound="a"))
        with pytest.raises(ValueError, match=error):
            hear(mixer, 0.1)
