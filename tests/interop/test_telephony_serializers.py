"""Pipecat's telephony serializers and ours exchange the same calls, message by message."""

import subprocess

import pytest

from tests.interop.environment import PIPECAT_PYTHON, REPOSITORY_DIR, pipecat_environ


def test_pipecats_serializers_and_ours_agree() -> None:
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    # Without conftest.py, whose fixtures need what Pipecat's environment has not.
    options = ("-q", "-p", "no:cacheprovider", "--noconftest")
    done = subprocess.run(
        [str(PIPECAT_PYTHON), "-m", "pytest", *options, "tests/interop/telephony_exchange.py"],
        cwd=REPOSITORY_DIR,
        env=pipecat_environ(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 passed" in done.stdout
