"""These tests need Pipecat, which has an environment of its own: tests.interop runs them there."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("pipecat") else ["test_*.py"]
