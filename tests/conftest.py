"""Servers for tests: embedded ones, started once and only if a test asks for them."""

from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
import redis
from hypothesis import settings

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.embedded_cluster import EmbeddedCluster
from dataflows.local_kafka import LocalKafka
from dataflows.settings import load
from state.store import Store
from tests.brokers import REDIS, Broker, needs_redis, new_broker

settings.register_profile("afterglow", deadline=None)  # tests are not timed
settings.load_profile("afterglow")


@pytest.fixture(scope="session")
def embedded_store() -> Iterator[EmbeddedStore]:
    """One store for all tests."""
    with EmbeddedStore() as store:
        yield store


@pytest.fixture
def store_url(embedded_store: EmbeddedStore) -> str:
    """The address of an empty store."""
    with redis.Redis.from_url(embedded_store.url) as client:
        client.flushall()
    return embedded_store.url


@pytest.fixture
def begun_url(store_url: str) -> str:
    """The address of a store that an engine has begun, and that holds nothing yet."""
    with closing(Store(store_url)) as store:
        store.meta.begin()
    return store_url


@pytest.fixture(scope="session")
def embedded_cluster() -> Iterator[EmbeddedCluster]:
    """One cluster for all tests that ask for each kind of store."""
    with EmbeddedCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def debian_redis() -> Iterator[EmbeddedStore]:
    """Debian's Redis, an older server than the embedded one."""
    with EmbeddedStore(binary=REDIS) as store:
        yield store


@pytest.fixture(
    params=[
        "one server",
        "a cluster",
        pytest.param("Debian's Redis", marks=[pytest.mark.redis, needs_redis]),
    ]
)
def each_store_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty store of each kind."""
    if request.param == "one server":
        url: str = request.getfixturevalue("store_url")
        return url
    if request.param == "Debian's Redis":
        redis_: EmbeddedStore = request.getfixturevalue("debian_redis")
        with redis.Redis.from_url(redis_.url) as client:
            client.flushall()
        return redis_.url
    cluster: EmbeddedCluster = request.getfixturevalue("embedded_cluster")
    with redis.RedisCluster.from_url(cluster.url) as client:
        client.flushall(target_nodes="primaries")
    return cluster.url


@pytest.fixture(scope="session")
def one_broker() -> Iterator[Broker]:
    """One broker for all tests."""
    with new_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(one_broker: Broker) -> Iterator[LocalKafka]:
    """A real Kafka for all tests that need one."""
    if isinstance(one_broker, LocalKafka):
        yield one_broker
        return
    with LocalKafka() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def broker(one_broker: Broker) -> str:
    """Its address; a test uses topics of its own, because topics stay."""
    return one_broker.bootstrap


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A running engine with servers of its own: the environment that leads to them."""
    kafka, log = load(env={}).kafka, tmp_path_factory.mktemp("engine") / "engine.log"
    with EmbeddedStore() as store, new_broker() as broker:
        broker.create(kafka.events, kafka.dead, kafka.changes)
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        engine = Engine(["--set", "metrics.address="], env, log)
        engine.start()
        try:
            yield env
            code = engine.stop()
        finally:
            engine.kill()
        assert code == 0, log.read_text()
