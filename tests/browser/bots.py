"""A bot for the browser tests."""

from voicews.bots import Bot


class Keypad(Bot):
    """Says which button was pressed, and hangs up at #."""

    def on_dtmf(self, button: str) -> None:
        self.send_message({"button": button})
        if button == "#":
            self.hang_up("pressed #")
