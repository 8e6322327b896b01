"""The sessions in Django's admin: to look at, to listen to and to end, not to edit."""

from voicews.admin.dashboard import DashboardAdmin
from voicews.admin.phone import PhoneNumberAdmin
from voicews.admin.sessions import VoiceSessionAdmin

__all__ = ["DashboardAdmin", "PhoneNumberAdmin", "VoiceSessionAdmin"]
