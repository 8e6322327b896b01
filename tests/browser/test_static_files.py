"""Static files as deployments serve them: with hashes in their names, some with nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Response, expect

from tests.browser.chromium import microphone
from tests.browser.conftest import OpenPage
from tests.browser.sound import sentence, silence, write_microphone
from tests.conftest import serving
from tests.server_processes import ROOT, Server, server_environment

#: Storage, and whether the files without a hash are deleted.
STORAGES = {
    "only-hashed": ("tests.projects.hashed_files.HashedFiles", "1"),
    # Modules import one another by their plain names.
    "manifest": ("django.contrib.staticfiles.storage.ManifestStaticFilesStorage", "0"),
    "plain": ("django.contrib.staticfiles.storage.StaticFilesStorage", "0"),
}


@pytest.fixture(scope="module", params=list(STORAGES))
def hashed_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrated_database: Any
) -> Iterator[tuple[str, Server]]:
    storage, only_hashed = STORAGES[request.param]
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.projects.settings_hashed",
        "DEBUG": "false",
        "ALLOWED_HOSTS": "127.0.0.1",
        "TEST_STATIC_ROOT": str(tmp_path_factory.mktemp("static")),
        "TEST_STORAGE": storage,
        "TEST_KEEP_ONLY_HASHED": only_hashed,
    }
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity=0"],
        cwd=ROOT,
        env=server_environment(migrated_database, environment),
        check=True,
    )
    with serving(tmp_path_factory, migrated_database) as start:
        yield request.param, start("uvicorn", environment=environment)


def test_a_call(hashed_site: tuple[str, Server], open_page: OpenPage, sounds: Path) -> None:
    storage, site = hashed_site
    words = microphone(write_microphone(sounds / "words.wav", silence(0.3), sentence(1)))
    page = open_page("about:blank", *words)
    answers: list[tuple[int, str]] = []

    def note(answer: Response) -> None:
        answers.append((answer.status, answer.url))

    page.on("response", note)
    page.goto(f"{site.http_url}/")
    element = page.locator("voicews-call")
    element.get_by_role("button").click()
    expect(element).to_have_attribute("data-state", "ready")
    element.get_by_role("button").click()
    expect(element).to_have_attribute("data-state", "disconnected")
    page.goto(f"{site.http_url}/voice/demo/")
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
    assert [answer for answer in answers if answer[0] >= 400] == []
    scripts = [url for _status, url in answers if url.endswith(".js")]
    for name in ("capture-worklet", "playback-worklet", "jitter-buffer"):
        assert any(name in url for url in scripts)
    if storage == "only-hashed":
        # Otherwise a browser could have some of them in its cache from before an upgrade.
        assert [url for url in scripts if not re.search(r"\.[0-9a-f]{12}\.js$", url)] == []
