"""A bot that does with calls what it is told by keys."""

from __future__ import annotations

from voicews.bots import Bot


class Operator(Bot):
    """1 transfers, 2 presses keys."""

    audio_out_sample_rate = 8000

    async def on_dtmf(self, button: str) -> None:
        if button == "1":
            await self.transfer("+15557770000")
        elif button == "2":
            self.send_dtmf("12#")
