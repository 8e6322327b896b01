"""The sessions in Django's admin: to look at, to listen to and to end, not to edit."""

from django.apps import apps

# `admin.sockets` is imported without Django's admin too, where the admin's models can't be.
if apps.is_installed("django.contrib.admin"):
    from voicews.admin.dashboard import DashboardAdmin as DashboardAdmin
    from voicews.admin.phone import PhoneNumberAdmin as PhoneNumberAdmin
    from voicews.admin.sessions import VoiceSessionAdmin as VoiceSessionAdmin
