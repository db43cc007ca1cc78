"""Stores for lanes that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflows.embedded import EmbeddedStore
from tests.faults.lives import SHARDS, Mortal


@pytest.fixture
def store(store_url: str) -> Iterator[Mortal]:
    opened = Mortal(store_url, "t", SHARDS, give_up_s=0.3)
    yield opened
    opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data") as running:
        yield running


@pytest.fixture
def lossy(server: EmbeddedStore) -> Iterator[Mortal]:
    """A store on a server of the test's own."""
    opened = Mortal(server.url, "t", SHARDS)
    yield opened
    opened.close()
