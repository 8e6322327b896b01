"""Sessions: who may hold one, where it lives, how it changes hands."""

from voicews.sessions.admission import admit, bot_ready_extras
from voicews.sessions.live import LiveSession, LiveSessions, live_sessions

__all__ = ["LiveSession", "LiveSessions", "admit", "bot_ready_extras", "live_sessions"]
