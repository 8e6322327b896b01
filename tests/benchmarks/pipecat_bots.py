"""The Pipecat pipeline of tests.interop.pipecat_server as a bot of ours."""

from pipecat.transports.base_transport import TransportParams

from tests.interop.pipecat_echo import echo_worker
from voicews.contrib.pipecat import PipecatBot, VoicewsTransport


class Echo16k(PipecatBot):
    audio_out_sample_rate = 16000

    def pipecat_params(self) -> TransportParams:
        params = super().pipecat_params()
        params.audio_out_10ms_chunks = 2
        return params

    async def run(self, transport: VoicewsTransport) -> None:
        await self.run_workers(echo_worker(transport, 16000, 16000))
