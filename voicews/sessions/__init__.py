"""Sessions: which client holds one, which process runs it, how it is taken over."""

from voicews.sessions.admission import admit, bot_ready_extras
from voicews.sessions.live import LiveSession, LiveSessions, live_sessions

__all__ = ["LiveSession", "LiveSessions", "admit", "bot_ready_extras", "live_sessions"]
