"""ASGI application of the tests' project: the demo project's, and some consumers of its own."""

from typing import Any, cast

from channels.auth import AuthMiddlewareStack
from django.core.asgi import get_asgi_application
from django.urls import path

from voicews.routing import voice_application, websocket_urlpatterns

http_application = get_asgi_application()

from tests.consumers.project import consumers  # noqa: E402 - Django's apps must be ready first
from voicews.pipeline import lanes as voicews_lanes  # noqa: E402
from voicews.pipeline import task as voicews_task  # noqa: E402
from voicews.sessions import join as voicews_join  # noqa: E402

# A stray socket is shown out, and a bot that never ends is left alone, sooner than in earnest.
voicews_join.FIRST_MESSAGE_TIMEOUT_SECS = 1.0
voicews_lanes.HANDLER_STOP_TIMEOUT_SECS = 0.5
voicews_task.CLEANUP_TIMEOUT_SECS = 2.0

talk = consumers.Talk.as_asgi()
routes = {
    "own-pipeline": consumers.OwnPipeline.as_asgi(),
    "own-bot": consumers.OwnBot.as_asgi(),
    "members": consumers.Members.as_asgi(),
    "nothing": consumers.Nothing.as_asgi(),
    "plain": consumers.Plain.as_asgi(),
    "with-user": AuthMiddlewareStack(talk),
    "seen": consumers.SeesMessages(talk),
    "seen-with-user": consumers.SeesMessages(AuthMiddlewareStack(talk)),
}
application = voice_application(
    http_application,
    [
        *websocket_urlpatterns,
        path("ws/own-session/<uuid:session>/", cast("Any", consumers.OwnSession.as_asgi())),
        *(path(f"ws/{name}/", cast("Any", route)) for name, route in routes.items()),
    ],
)
