"""Live voice over WebSockets for Django."""

__version__ = "0.1.0"


def setup() -> None:
    """Set Django up for a program that has no project around it.

    In a project, or where `DJANGO_SETTINGS_MODULE` names one, this is `django.setup()`.
    """
    import os

    import django
    from django.conf import settings

    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.configure(
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "voicews"],
            USE_TZ=True,
        )
    django.setup()
