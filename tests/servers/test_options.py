from __future__ import annotations

import pytest

from voicews.servers.options import compresses

UVICORN = "/usr/bin/uvicorn"


@pytest.mark.parametrize(
    ("argv", "environment", "expected"),
    [
        ([UVICORN, "project.asgi:application"], {}, True),
        ([UVICORN, "--ws-per-message-deflate", "false"], {}, False),
        ([UVICORN, "--ws-per-message-deflate=false"], {}, False),
        ([UVICORN, "--ws-per-message-deflate", "true"], {}, True),
        ([UVICORN], {"UVICORN_WS_PER_MESSAGE_DEFLATE": "False"}, False),
        (
            [UVICORN, "--ws-per-message-deflate=true"],
            {"UVICORN_WS_PER_MESSAGE_DEFLATE": "0"},
            True,
        ),
        (["/usr/bin/daphne"], {}, False),
        ([], {}, False),
    ],
)
def test_compression(argv: list[str], environment: dict[str, str], expected: bool) -> None:
    assert compresses(argv, environment) is expected
