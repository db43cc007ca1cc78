"""One plant for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.operations.plant import PROMETHEUS, Plant, plant, prometheus, until


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A plant at work: events went in, changes came out, models have learned."""
    directory = tmp_path_factory.mktemp("plant")
    with plant(directory) as found:
        until(lambda: found.value("afterglow_events_total", 1), 120, found.log)
        if PROMETHEUS is None:
            yield found
            return
        with prometheus(directory, found.targets) as port:
            found.prometheus_port = port
            yield found
