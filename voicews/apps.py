"""The app's configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class VoicewsConfig(AppConfig):
    """Registers the system checks, waits for the server if Daphne is the one, keeps logs clean."""

    name = "voicews"
    verbose_name = _("Voice calls")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from voicews import checks, log_escaping
        from voicews.consumers import standalone
        from voicews.servers import log_redaction, probe, readiness
        from voicews.sessions import startup
        from voicews.telephony import api, hangups

        checks.register_checks()
        readiness.watch_daphne()
        startup.connect()
        standalone.connect()
        hangups.connect()
        log_redaction.install()
        log_escaping.install()
        readiness.when_ready(probe.look_at_servers)
        readiness.when_ready(api.preload)
