"""ASGI application of the tests' project: the demo project's, and some consumers of its own."""

from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.urls import path

from voicews.routing import voice_application, websocket_urlpatterns

http_application = get_asgi_application()

from tests.sockets.project import consumers  # noqa: E402 - Django's apps must be ready first
from voicews import consumers as voicews_consumers  # noqa: E402
from voicews.pipeline import lanes as voicews_lanes  # noqa: E402
from voicews.pipeline import task as voicews_task  # noqa: E402

# A stray socket is shown out, and a bot that never ends is left alone, sooner than in earnest.
voicews_consumers.FIRST_MESSAGE_TIMEOUT_SECS = 1.0
voicews_lanes.HANDLER_STOP_TIMEOUT_SECS = 0.5
voicews_task.CLEANUP_TIMEOUT_SECS = 2.0

routes = {
    "own-pipeline": consumers.OwnPipeline,
    "own-bot": consumers.OwnBot,
    "members": consumers.Members,
    "nothing": consumers.Nothing,
    "plain": consumers.Plain,
}
application = voice_application(
    http_application,
    [
        *websocket_urlpatterns,
        *(
            path(f"ws/{name}/", cast("Any", consumer.as_asgi()))
            for name, consumer in routes.items()
        ),
    ],
)
