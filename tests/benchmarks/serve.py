"""Run uvicorn so that the harness can ask the server for a garbage collection by SIGUSR1.

Runs in the peers' environments too, so it needs the standard library and uvicorn only.
"""

import ctypes
import gc
import signal
from types import FrameType

from uvicorn.main import main


def _collect(signum: int, frame: FrameType | None) -> None:
    gc.collect()
    # Freed memory goes back to the system, so that resident memory is memory in use.
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _collect)
    main()
