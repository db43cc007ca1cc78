"""A second engine takes the lanes over: the first ends for good, and the shipped alert says so."""

import pytest

from dataflows.child import Engine
from tests.operations.plant import free_pair, needs_prometheus, plant, prometheus, until


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.prometheus
@needs_prometheus
def test_a_lost_fence_is_told(tmp_path):
    with plant(tmp_path, ends=75) as first:
        until(lambda: _owns(first), 120, first.log)
        port = free_pair()
        second = Engine(
            ["--workers", "2", "--set", f"metrics.address=127.0.0.1:{port}"],
            {
                "KAFKA_BOOTSTRAP": first.broker.bootstrap,
                "REDIS_URL": first.store.url("engine"),
            },
            tmp_path / "second.log",
        )
        targets = first.targets
        targets["afterglow"] += [f"127.0.0.1:{port + i}" for i in range(2)]
        with prometheus(tmp_path, targets) as first.prometheus_port:
            until(lambda: first.ask("query", query="afterglow_fence_epoch")["result"], 30)
            second.start()
            try:
                until(lambda: "AfterglowFenceLost" in _firing(first), 90, second.log.read_text)
                assert until(lambda: first.engine.exit_code(), 30) == 75
                assert second.exit_code() is None
                assert '"kind": "FencedOff", "code": 75' in first.log()
            finally:
                second.stop()
                second.kill()


def _owns(found):
    return all("afterglow_fence_epoch{" in found.scrape(worker) for worker in (0, 1))


def _firing(found):
    rules = [rule for group in found.ask("rules")["groups"] for rule in group["rules"]]
    return {rule["name"] for rule in rules if rule["state"] == "firing"}
