"""ASGI application of the demo project."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from voicews.routing import voice_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

http_application = get_asgi_application()
if settings.DEBUG:  # as runserver does by itself, for uvicorn and the daphne command
    http_application = ASGIStaticFilesHandler(http_application)

application = voice_application(http_application)
