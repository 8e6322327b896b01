"""Each field is refused when it can't be honoured; that it works is shown where it does."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from voicews.exceptions import ConfigurationError
from voicews.transports import (
    ChannelsWebsocketParams,
    TransportParams,
    WebsocketClientParams,
    WebsocketServerParams,
)

DEFAULTS: dict[str, Any] = {
    "audio_out_enabled": False,
    "audio_out_sample_rate": None,
    "audio_out_channels": 1,
    "audio_out_bitrate": 96000,
    "audio_out_10ms_chunks": 4,
    "audio_out_end_silence_secs": 2,
    "audio_out_auto_silence": True,
    "audio_out_mixer": None,
    "audio_out_destinations": [],
    "audio_out_filter": None,
    "audio_out_volume": 1.0,
    "audio_out_write_timeout_secs": 10,
    "audio_in_enabled": False,
    "audio_in_sample_rate": None,
    "audio_in_channels": 1,
    "audio_in_filter": None,
    "audio_in_stream_on_start": True,
    "audio_in_passthrough": True,
    "vad_analyzer": None,
    "turn_analyzer": None,
    "video_out_width": 1024,
    "video_out_height": 768,
    "serializer": None,
    "add_wav_header": False,
}


@pytest.mark.parametrize("params", [TransportParams, WebsocketServerParams])
def test_defaults(params: type[TransportParams]) -> None:
    made = params()
    assert {name: getattr(made, name) for name in DEFAULTS} == DEFAULTS


def test_defaults_of_the_server() -> None:
    params = ChannelsWebsocketParams()
    assert params.session_timeout is None
    assert params.fixed_audio_packet_size is None
    assert params.allowed_origins is None
    assert params.ws_close_timeout == 0.5


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("video_out_codec", "VP8", "video codec VP8"),
        ("video_out_codec", "H264", "video codec H264"),
        ("video_out_codec", "GIF", "expected one of JPEG, PNG, WEBP, found 'GIF'"),
        ("video_out_color_format", "YUV", "expected one of RGB, BGR, RGBA, BGRA, L, found 'YUV'"),
        ("video_out_width", 0, "expected video_out_width from 1 to 4096, found 0"),
        ("video_out_height", 5000, "expected video_out_height from 1 to 4096, found 5000"),
        ("video_in_width", -1, "expected video_in_width from 1 to 4096, found -1"),
        ("video_out_framerate", 0, "expected video_out_framerate above 0, at most 60, found 0"),
        ("video_in_framerate", 61, "expected video_in_framerate above 0, at most 60, found 61"),
        ("video_out_bitrate", 10, "expected video_out_bitrate >= 1000, found 10"),
        ("video_in_quality", 0, "expected video_in_quality from 1 to 100, found 0"),
        ("video_in_max_bytes", 0, "expected video_in_max_bytes >= 1, found 0"),
        ("video_out_destinations", "door", "expected a list of names, found ['d', 'o', 'o', 'r']"),
        ("video_out_destinations", ["a", "a"], "expected each name once, found ['a', 'a']"),
    ],
)
def test_video_that_can_not_be(field: str, value: Any, error: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        WebsocketServerParams(**{field: value})
    assert error in str(raised.value)


def test_what_asks_for_nothing_is_taken() -> None:
    TransportParams(audio_out_destinations=(), video_out_destinations=[], audio_out_mixer={})


@pytest.mark.parametrize("rate", [4000, 7350, 12345, 37800, 192000])
def test_every_rate_that_can_be_resampled(rate: int) -> None:
    TransportParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (
            "audio_in_sample_rate",
            "16000",
            "expected a whole number, found '16000'",
        ),
        ("video_in_sources", ["cam"], "expected camera or screen, found ['cam']"),
        ("audio_out_channels", True, "expected a whole number, found True"),
        ("audio_out_10ms_chunks", 1.5, "expected a whole number, found 1.5"),
        ("audio_out_volume", math.nan, "audio_out_volume: expected a number, found nan"),
        ("audio_out_end_silence_secs", math.inf, "expected a number, found inf"),
        ("audio_out_write_timeout_secs", None, "expected a number, found None"),
        ("video_out_framerate", None, "video_out_framerate: expected a whole number, found None"),
        ("video_out_color_format", [], "expected a name, found []"),
        ("audio_out_enabled", "yes", "audio_out_enabled: expected True or False, found 'yes'"),
        ("audio_out_destinations", None, "expected a list of names, found None"),
        ("audio_in_sample_rate", 0, "from 4000 to 192000 Hz, found 0"),
        ("audio_in_sample_rate", 3999, "found 3999"),
        ("audio_out_sample_rate", -8000, "from 4000 to 192000 Hz, found -8000"),
        ("audio_out_mixer", object(), "found a object without start, stop, process_frame, mix"),
        ("audio_out_mixer", {None: 1}, "found a int without start"),
        ("audio_out_mixer", {"a": 1}, "the names of audio_out_destinations, found 'a'"),
        ("audio_out_filter", "rnnoise", "found a str without start, stop, process_frame, filter"),
        ("audio_in_filter", object(), "found a object without start"),
        ("audio_out_destinations", "music", "expected a list of names"),
        ("audio_out_destinations", ["a", ""], "expected a list of names, found ['a', '']"),
        ("audio_out_destinations", [1], "expected a list of names, found [1]"),
        ("audio_out_destinations", ["a", "b", "a"], "expected each name once"),
        ("audio_in_channels", 0, "1 or 2, found 0"),
        ("audio_out_channels", 3, "1 or 2, found 3"),
        ("audio_out_10ms_chunks", 0, ">= 1, found 0"),
        ("audio_out_bitrate", 0, ">= 1, found 0"),
        ("max_invalid_messages", 0, ">= 1, found 0"),
        ("audio_in_max_ahead_secs", 0, "> 0, found 0"),
        ("audio_out_end_silence_secs", -1, ">= 0, found -1"),
        ("audio_out_lead_secs", -0.1, ">= 0, found -0.1"),
        ("audio_out_volume", -1, ">= 0, found -1"),
        ("audio_out_write_timeout_secs", 0, "> 0, found 0"),
        ("session_timeout", 0, "> 0 or None, found 0"),
        ("session_timeout", -1, "> 0 or None, found -1"),
        ("reconnect_grace", -1, ">= 0 or None, found -1"),
        ("ws_close_timeout", 0, "> 0, found 0"),
        ("fixed_audio_packet_size", 0, "whole 16-bit samples of 1 channel(s), found 0"),
        ("fixed_audio_packet_size", -2, "found -2"),
        ("fixed_audio_packet_size", 641, "found 641"),
    ],
)
def test_what_makes_no_sense_is_refused(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        WebsocketServerParams(**{field: value})
    assert field in str(error.value)
    assert expected in str(error.value)


def test_a_name_that_is_none() -> None:
    with pytest.raises(TypeError, match="audio_out_enable"):
        TransportParams(audio_out_enable=True)  # type: ignore[call-arg]  # what is tested


def test_no_field_was_forgotten() -> None:
    """A field that is added needs a test; here is the list to add it to, with the test's home."""
    tested_in_output = {
        "audio_out_lead_secs",
    }
    tested_in_input = {
        "allow_interruptions",
        "audio_in_max_ahead_secs",
        "max_invalid_messages",
    }
    refused = {
        *(f.name for f in dataclasses.fields(TransportParams) if f.name.startswith("video_")),
    }
    fields = {field.name for field in dataclasses.fields(TransportParams)}
    assert fields == set(DEFAULTS) | tested_in_output | tested_in_input | refused


@pytest.mark.parametrize("headers", [5, ["a"], {"a": 5}, {"a": "secret\r\nB: 1"}, {"a\n": "b"}])
def test_headers_that_are_none(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="^additional_headers: expected a") as caught:
        WebsocketClientParams(additional_headers=headers)
    assert "secret" not in str(caught.value)
    WebsocketClientParams(additional_headers={"Authorization": "Bearer secret"})
