"""The two ends of the server transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicews.transports.input import InputTransport
from voicews.transports.output import OutputTransport

if TYPE_CHECKING:
    from voicews.transports.params import WebsocketServerParams
    from voicews.transports.server import WebsocketServerTransport


class WebsocketServerInputTransport(InputTransport):
    """Brings what the client says into the pipeline.

    Every method may be overridden. One that is made for a transport takes the place of the input
    that it had; raises `InvalidState` once the pipeline has started.
    """

    def __init__(
        self,
        transport: WebsocketServerTransport,
        params: WebsocketServerParams,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            params, transport.serializer, name=name, **transport.input_callbacks(params)
        )
        transport.take_end(self)


class WebsocketServerOutputTransport(OutputTransport):
    """Sends what the pipeline says to the client.

    Every method may be overridden. One that is made for a transport takes the place of the output
    that it had; raises `InvalidState` once the pipeline has started.
    """

    def __init__(
        self,
        transport: WebsocketServerTransport,
        params: WebsocketServerParams,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            params,
            transport.serializer,
            packet_size=params.fixed_audio_packet_size,
            pads_last_packet=params.pad_last_audio_packet,
            name=name,
            **transport.output_callbacks(params),
        )
        transport.take_end(self)
