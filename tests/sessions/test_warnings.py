"""What a server says about how it was started."""

from __future__ import annotations

from typing import Any

import pytest

from voicews.sessions import warnings


@pytest.mark.parametrize(
    ("count", "age_secs", "layer", "warns"),
    [
        # The lease of the process before a restart has not run out yet.
        (2, 0.0, "channels.layers.InMemoryChannelLayer", False),
        (2, 20.0, "channels.layers.InMemoryChannelLayer", False),
        (2, 21.0, "channels.layers.InMemoryChannelLayer", True),
        (1, 21.0, "channels.layers.InMemoryChannelLayer", False),
        (2, 21.0, "channels_redis.pubsub.RedisPubSubChannelLayer", False),
        (2, 21.0, None, True),
    ],
)
def test_several_processes(
    count: int,
    age_secs: float,
    layer: str | None,
    warns: bool,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(warnings, "_warned", set())
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": layer}} if layer else {}
    for _beat in range(2):
        warnings.warn_of_several_processes(count, age_secs, lease_secs=10.0)
    assert ["2 server processes" in text for text in caplog.messages] == [True] * warns
