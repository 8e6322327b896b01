"""A call from a plain WebSocket client, as short as it can be."""

from __future__ import annotations

import json

from websockets.sync.client import connect

from voicews.serializers.frames_pb2 import Frame

TIMEOUT_SECS = 15


def hear_echo(ws_url: str, token: str, pcm: bytes) -> bytes:
    """Say ``pcm`` (16-bit, 16 kHz, mono) to an echo bot; returns what comes back first.

    Raises TimeoutError if nothing comes back.
    """
    ready = {"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {"version": "2.2.0"}}
    with connect(f"{ws_url}?token={token}", open_timeout=TIMEOUT_SECS) as socket:
        message = Frame()
        message.message.data = json.dumps(ready)
        socket.send(message.SerializeToString())
        while True:
            answer = Frame.FromString(_bytes(socket.recv(TIMEOUT_SECS)))
            if answer.WhichOneof("frame") == "message":
                if json.loads(answer.message.data)["type"] != "bot-ready":
                    continue
                speech = Frame()
                speech.audio.audio = pcm
                speech.audio.sample_rate = 16000
                speech.audio.num_channels = 1
                socket.send(speech.SerializeToString())
            elif answer.WhichOneof("frame") == "audio":
                return answer.audio.audio


def _bytes(data: str | bytes) -> bytes:
    assert isinstance(data, bytes), "expected a binary message, found text"
    return data
