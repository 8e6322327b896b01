"""The pages of the demo project, as the tests use them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.sound import Recording
from tests.server_processes import Server

DEMO = "/voice/demo/"

_RECORD = """async (client) => {
  const { recordCalls } = await import("/static/voicews-tests/recorder.js");
  globalThis.calls = recordCalls(client);
}"""


_REMEMBER_SESSIONS = """() => {
  globalThis.sessions = [];
  globalThis.resumed = [];
  globalThis.attempts = [];
  voiceClient.on("onReconnecting", ({ attempt }) => attempts.push(attempt));
  voiceClient.on("onBotReady", (data) => sessions.push(data.voicews.session));
  voiceClient.on("onReconnected", (data) => resumed.push(data.voicews.session));
}"""


class Calls:
    """What a page's client records of its calls; the newest one is meant."""

    def __init__(self, page: Page, client: str) -> None:
        """``client`` is a JavaScript expression for the page's VoiceClient."""
        self.page = page
        self.page.evaluate_handle(client).evaluate(_RECORD)

    def record(self, seconds: float) -> None:
        """Wait until so much more has been recorded, on the clock of the call's audio."""
        self.page.evaluate("(seconds) => calls.at(-1).more(seconds)", seconds)

    def note(self, name: str) -> None:
        """Remember when this was, with the client's own events."""
        self.page.evaluate("(name) => calls.at(-1).note(name)", name)

    def read(self) -> Recording:
        return Recording(self.page.evaluate("calls.at(-1).read()"))


class DemoPage:
    """The demo page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.calls = Calls(page, "voiceClient")
        page.evaluate(_REMEMBER_SESSIONS)
        self.call_button = page.locator("#call")
        self.state = page.locator("#state")
        self.alert = page.locator("#alert")

    def start(self, bot: str) -> None:
        """Choose a bot and start a call; does not wait for it."""
        self.page.check(f"[name=bot][value={bot}]")
        self.call_button.click()

    def call(self, bot: str) -> str:
        """Start a call and wait until it is there; the id of its session."""
        self.start(bot)
        self.expect_state("ready")
        session: str = self.page.evaluate("sessions.at(-1)")
        return session

    def hang_up(self) -> None:
        self.call_button.click()
        self.expect_state("disconnected")

    def expect_state(self, state: str) -> None:
        expect(self.state).to_have_attribute("data-state", state)

    def entries(self, text: str, *, by_bot: bool = False) -> Locator:
        """The lines of the timeline that hold this text."""
        return self.page.locator(f"#timeline .entry{'-bot' if by_bot else ''}", has_text=text)

    def figure(self, name: str) -> Locator:
        return self.page.locator(f"[data-figure={name}]")

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.page.evaluate("voiceClient.stats")
        return stats


def session_row(server: Server, session: str) -> dict[str, Any]:
    """What the server's database says of a session."""
    with closing(sqlite3.connect(server.database, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        row = database.execute(
            "SELECT * FROM voicews_voicesession WHERE id = ?", [session.replace("-", "")]
        ).fetchone()
    return dict(row)


def count_sessions(server: Server, *states: str) -> int:
    """How many sessions in one of these states, or in any, the server's database has."""
    with closing(sqlite3.connect(server.database, timeout=10)) as database:
        found = [state for (state,) in database.execute("SELECT state FROM voicews_voicesession")]
    return sum(state in states for state in found) if states else len(found)
