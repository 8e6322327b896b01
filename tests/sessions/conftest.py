"""Fixtures for tests with several server processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.sessions.cluster import Cluster, Redis, copy_database, running_redis


class StartCluster(Protocol):
    """Makes a cluster without nodes; keyword arguments are those of `Cluster`."""

    def __call__(self, **options: Any) -> Cluster: ...


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, migrated_database: Path) -> Iterator[StartCluster]:
    clusters: list[Cluster] = []

    def start(**options: Any) -> Cluster:
        directory = tmp_path / f"cluster{len(clusters)}"
        directory.mkdir()
        options.setdefault("database_url", copy_database(migrated_database, directory))
        options.setdefault("redis", None)
        made = Cluster(directory, template_database=migrated_database, **options)
        clusters.append(made)
        return made

    yield start
    for made in clusters:
        made.stop()
