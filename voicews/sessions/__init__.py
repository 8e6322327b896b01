"""Sessions: who may hold one, where it lives, how it changes hands."""

from voicews.sessions.live import LiveSession, LiveSessions, admit, bot_ready_extras, live_sessions

__all__ = ["LiveSession", "LiveSessions", "admit", "bot_ready_extras", "live_sessions"]
