"""Both readers on every kind of store, held against the engine's own reading."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from zlib import crc32

import pytest
import redis

from afterglow_client import (
    AsyncReader,
    Forbidden,
    NotAfterglow,
    Reader,
    Unavailable,
    UnknownSegment,
)
from dataflows.embedded import EmbeddedStore, free_port
from dataflows.embedded_cluster import EmbeddedCluster
from tests.brokers import REDIS, needs_redis
from tests.cli.running import until
from tests.serving.afterglow_client.stores import fill

pytestmark = pytest.mark.servers


class Awaited:
    """An ``AsyncReader`` behind the face of a ``Reader``."""

    def __init__(self, *arguments, **options):
        self._runner = asyncio.Runner()
        self._reader = self._run(self._made(*arguments, **options))

    def __getattr__(self, name):
        def call(*arguments):
            found = getattr(self._reader, name)(*arguments)
            return self._run(_listed(found) if inspect.isasyncgen(found) else found)

        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self._runner.close()

    def close(self):
        self._run(self._reader.close())

    def _run(self, awaitable):
        return self._runner.run(awaitable)

    @staticmethod
    async def _made(*arguments, **options):
        return AsyncReader(*arguments, **options)


async def _listed(found):
    return [one async for one in found]


both = pytest.mark.parametrize("kind", [Reader, Awaited], ids=["waiting", "awaited"])


@both
def test_it_reads_what_the_engine_has_stored(kind, each_store_url):
    filled = fill(each_store_url)
    with kind(filled.url, clock_ms=lambda: filled.until_ms) as reader:
        found = reader.get_many([*filled.profiles, "nobody"])
        assert {user: p.document for user, p in found.items()} == filled.profiles
        assert reader.get("nobody") is None
        assert reader.candidates("nobody") is None
        assert reader.segments("nobody") == ()
        assert filled.lists
        for user, document in filled.lists.items():
            held = reader.candidates(user)
            assert held.document == document
            assert held.items == tuple(item["item_id"] for item in document["items"])
        for user, document in list(filled.profiles.items())[:40]:
            profile = reader.get(user)
            assert (profile.user_id, profile.document) == (user, document)
            assert (profile.as_of_ms, profile.commit) == (document["as_of"], document["commit"])
            assert reader.segments(user) == tuple(
                name
                for name, entry in document["segments"].items()
                if entry["valid_to"] is None or entry["valid_to"] > filled.until_ms
            )
        sizes = reader.sizes()
        assert {name: size for name, size in sizes.items() if size} == {
            name: len(users) for name, users in filled.members.items()
        }
        assert sizes.keys() == {*reader.defined()} >= filled.members.keys()
        for name, users in filled.members.items():
            came = list(reader.members(name))
            assert len(came) == len(set(came))
            assert set(came) == users
        with pytest.raises(UnknownSegment, match=r"'vipp'.*champions"):
            list(reader.members("vipp"))


@both
def test_many_members_come_in_pieces_each_once(kind, store_url):
    filled = fill(store_url, users=20, events=200)
    name = next(iter(filled.members))
    with redis.Redis.from_url(store_url) as client:
        client.sadd(f"ag:members:{{07}}:{name}", *(f"u{n}" for n in range(5_000)))
    with kind(store_url) as reader:
        came = list(reader.members(name))
    assert len(came) == len(set(came)) == len(filled.members[name] | {f"u{n}" for n in range(5000)})


@both
def test_what_is_over_is_dropped_by_the_clock_that_was_given(kind, store_url):
    filled = fill(store_url)
    user, entry = next(
        (user, entry)
        for user, document in filled.profiles.items()
        for entry in document["segments"].values()
        if entry["valid_to"] is not None
    )
    now_ms = entry["valid_to"] - 1
    with kind(store_url, clock_ms=lambda: now_ms) as reader:
        before = reader.get(user)
        now_ms += 1
        after = reader.get(user)
    dropped = before.segments.keys() - after.segments.keys()
    assert dropped
    assert set(after.lapsed) >= dropped
    assert before.at(now_ms).segments == after.segments


@both
def test_other_data_are_refused_in_words(kind, store_url):
    with redis.Redis.from_url(store_url) as client, kind(store_url) as reader:
        with pytest.raises(NotAfterglow, match=r"no Afterglow data under the prefix 'ag'"):
            reader.get("ann")
        client.hset("ag:meta", mapping={"format": 2, "shards": 64})
        with pytest.raises(NotAfterglow, match="the format '2', but this client reads format 1"):
            reader.ping()
        client.hset("ag:meta", mapping={"format": 1, "shards": "many"})
        with pytest.raises(NotAfterglow, match="into how many shards"):
            reader.ping()
        client.hset("ag:meta", "shards", 1)
        reader.ping()
        client.hset("ag:profile:{00}", "ann", b"\x81\xa1v\x02")
        with pytest.raises(NotAfterglow, match="a profile has the version 2"):
            reader.get("ann")
        client.hset("ag:profile:{00}", "ann", b"\x81\xa1v\x01")
        with pytest.raises(NotAfterglow, match="cannot be read"):
            reader.get("ann")
        client.hset("ag:profile:{00}", "ann", b"\x82\xa1v\x01\xa1a\xa1\xff")
        with pytest.raises(NotAfterglow, match="cannot be read"):
            reader.get("ann")
        client.delete("ag:profile:{00}")
        client.set("ag:profile:{00}", "x")
        with pytest.raises(NotAfterglow, match="WRONGTYPE"):
            reader.get("ann")
        client.hset("ag:commit:{00}", "segments", b'[["odd"],{}]')
        client.sadd("ag:members:{00}:odd", b"\xff")
        with pytest.raises(NotAfterglow, match="a stored member of a segment cannot be read"):
            list(reader.members("odd"))


@both
def test_what_is_no_user_id_is_refused_and_odd_ones_are_nobody(kind, store_url):
    fill(store_url, users=20, events=200)
    with kind(store_url) as reader:
        for odd in ("", "a" * 10_000, "\ud800", "{07}", "a\r\nb", "ö"):
            assert reader.get(odd) is None
        assert reader.get_many(["", "\ud800"]) == {}
        assert reader.get_many([]) == {}
        with pytest.raises(TypeError, match="user_id must be a str"):
            reader.get(5)
        with pytest.raises(TypeError, match="user_ids must be several"):
            reader.get_many("ann")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"prefix": "a{b}"}, "braces"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, words):
    for kind in (Reader, AsyncReader):
        with pytest.raises(ValueError, match=words):
            kind("redis://127.0.0.1", **options)


# -- trouble ------------------------------------------------------------------------------------


@both
def test_nobody_there_is_said_within_the_time_agreed(kind):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    began_s = time.monotonic()
    with (
        kind(url, timeout_s=0.2, retries=2) as reader,
        pytest.raises(Unavailable, match="no usable answer") as told,
    ):
        reader.get("ann")
    assert time.monotonic() - began_s < 2.0
    assert "secret" not in str(told.value)


@contextmanager
def silent_server():
    """Takes connections and says nothing; how many there were."""
    taken, listener = [], socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in taken:
            connection.close()


@both
def test_a_silent_server_is_asked_as_often_as_agreed(kind):
    with silent_server() as (url, taken), kind(url, timeout_s=0.1, retries=3) as reader:
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            reader.get("ann")
        took_s = time.monotonic() - began_s
    assert len(taken) == 4
    assert 0.4 <= took_s < 4 * 2 * 0.1 + 4 * 0.25 + 0.5


@both
def test_a_server_that_comes_back_is_found_again(kind):
    with EmbeddedStore() as server:
        fill(server.url, users=20, events=200)
        with kind(server.url, retries=8, timeout_s=1.0) as reader:
            before = reader.get_many([f"u{n:06d}" for n in range(20)])
            assert before
            server.kill()
            with pytest.raises(Unavailable):
                reader.get("u000001")
            server.start()
            assert reader.get_many(list(before)).keys() == before.keys()


@both
def test_a_server_that_restarts_during_a_lookup_costs_only_time(kind):
    with EmbeddedStore() as server:
        filled = fill(server.url, users=20, events=200)
        user = next(iter(filled.profiles))
        with kind(server.url, retries=30, timeout_s=1.0) as reader:
            assert reader.get(user)
            server.kill()
            found = []
            waiter = threading.Thread(target=lambda: found.append(reader.get(user)))
            waiter.start()
            time.sleep(0.3)
            server.start()  # in this thread: the server ends with the one that started it
            waiter.join(20)
            assert [profile.user_id for profile in found] == [user]


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(store_url):
    filled = fill(store_url, users=20, events=200)
    user = next(iter(filled.profiles))
    with redis.Redis.from_url(store_url) as client, Reader(store_url, retries=0) as reader:
        for _ in range(3):
            assert reader.get(user).user_id == user
            assert client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 0


def test_all_connections_of_many_threads_may_be_closed_at_once(store_url):
    filled = fill(store_url, users=20, events=200)
    user, together = next(iter(filled.profiles)), threading.Barrier(8)
    with (
        redis.Redis.from_url(store_url) as client,
        Reader(store_url, retries=0, timeout_s=5.0) as reader,
    ):

        def look(_):
            together.wait(5)
            return reader.get(user).user_id

        reader.ping()
        client.execute_command("CLIENT", "PAUSE", "500", "ALL")  # so that all ask at once
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(look, range(8))) == {user}
            assert client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 1
            assert set(pool.map(look, range(8))) == {user}


@both
def test_an_answer_that_comes_too_late_is_nobodys(kind, store_url):
    filled = fill(store_url, users=20, events=200)
    first, second, *_ = filled.profiles
    with (
        redis.Redis.from_url(store_url) as client,
        kind(store_url, retries=0, timeout_s=0.1) as reader,
    ):
        assert reader.get(first).user_id == first
        client.execute_command("CLIENT", "PAUSE", "2000", "ALL")
        with pytest.raises(Unavailable):
            reader.get(first)
        assert until(lambda: found(reader, second)).user_id == second


@both
def test_one_connection_may_be_all_there_is(kind, store_url):
    filled = fill(store_url, users=20, events=200)
    users = list(filled.profiles)
    for url, options in (
        (store_url, {"max_connections": 1}),
        (f"{store_url}?max_connections=1", {}),
    ):
        with kind(url, **options) as reader:
            for _ in range(2):
                assert reader.get(users[0]).user_id == users[0]
                assert reader.get_many(users).keys() == set(users)


def test_a_process_that_forks_keeps_its_connections_to_itself(store_url):
    filled = fill(store_url, users=20, events=200)
    first, second, *_ = filled.profiles
    with Reader(store_url) as reader:
        assert reader.get(first).user_id == first
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            child = os.fork()
        if not child:
            right = all(reader.get(second).user_id == second for _ in range(200))
            os._exit(0 if right else 1)
        assert all(reader.get(first).user_id == first for _ in range(200))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@both
def test_a_reader_of_an_edge_needs_few_rights(kind, store_url):
    filled = fill(store_url, users=20, events=200)
    user, name = next(iter(filled.profiles)), next(iter(filled.members))
    rights = (
        *("on", ">pw", "resetkeys", "%R~ag:*", "-@all"),
        *("+hget", "+hmget", "+hgetall", "+scard", "+sscan", "+ping"),
    )
    edge = store_url.replace("redis://", "redis://edge:pw@")
    with redis.Redis.from_url(store_url) as client:
        client.execute_command("ACL", "SETUSER", "edge", *rights)
        try:
            with kind(edge) as reader:
                assert reader.get(user).user_id == user
                assert reader.sizes()[name] == len(list(reader.members(name)))
            with kind(edge.replace(":pw@", ":no@")) as reader:
                began_s = time.monotonic()
                with pytest.raises(Forbidden, match="refuses"):
                    reader.get(user)
                assert time.monotonic() - began_s < 0.4, "it is not tried again"
            client.execute_command("ACL", "SETUSER", "edge", "-hget")
            with kind(edge) as reader, pytest.raises(Forbidden, match="hget"):
                reader.get(user)
        finally:
            client.execute_command("ACL", "DELUSER", "edge")


@both
def test_a_cluster_that_will_not_say_that_it_is_one_is_named(kind, embedded_cluster):
    with redis.RedisCluster.from_url(embedded_cluster.url) as client:
        client.flushall(target_nodes="primaries")
    filled = fill(embedded_cluster.url, users=20, events=200)
    with (
        kind(embedded_cluster.url, cluster=False) as reader,
        pytest.raises(Unavailable, match="cluster=True"),
    ):
        reader.get_many(filled.profiles)
    with kind(embedded_cluster.url, cluster=True) as reader:
        assert reader.get_many(filled.profiles).keys() == filled.profiles.keys()


@both
@pytest.mark.redis
@needs_redis
def test_over_tls_and_not_without_trust(kind, tmp_path):
    cert, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    options = (
        *("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no"),
    )
    url = f"rediss://127.0.0.1:{port}/0"
    with EmbeddedStore(options=options, binary=REDIS) as server:
        filled = fill(server.url, users=20, events=200)
        user = next(iter(filled.profiles))
        with kind(url, ssl_ca_certs=str(cert)) as reader:
            assert reader.get(user).user_id == user
        with kind(f"{url}?ssl_ca_certs={cert}") as reader:
            assert reader.get_many([user]).keys() == {user}
        with kind(url) as reader, pytest.raises(Unavailable, match=r"(?i)certificate"):
            reader.get(user)


def test_a_reader_is_shared_between_threads(store_url):
    filled = fill(store_url, users=30, events=300)
    wrong = []
    with Reader(store_url) as reader:

        def look():
            for user, document in list(filled.profiles.items()) * 5:
                if reader.get(user).document != document:
                    wrong.append(user)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_many_tasks_share_an_async_reader(store_url):
    filled = fill(store_url, users=30, events=300)

    async def look():
        async with AsyncReader(store_url) as reader:
            users = list(filled.profiles) * 20
            found = await asyncio.gather(*map(reader.get, users))
            assert [p.document for p in found] == [filled.profiles[user] for user in users]

    asyncio.run(look())


def test_the_twins_have_the_same_methods():
    def face(kind):
        found = {n: f for n, f in vars(kind).items() if callable(f) and n[0] != "_"}
        return {n: list(inspect.signature(f).parameters.items()) for n, f in found.items()}

    assert face(Reader) == face(AsyncReader)
    assert str(inspect.signature(Reader)) == str(inspect.signature(AsyncReader))


@both
@pytest.mark.slow
def test_a_primary_that_dies_is_said_and_its_replica_is_found(kind):
    with EmbeddedCluster() as cluster:
        filled = fill(cluster.url, users=60, events=600)
        users = list(filled.profiles)
        server = cluster.primary_of(f"ag:profile:{{{crc32(users[0].encode()) % 64:02d}}}")
        with kind(cluster.url, timeout_s=0.5, retries=2) as reader:
            assert reader.get_many(users).keys() == set(users)
            server.kill()
            began_s = time.monotonic()
            with pytest.raises(Unavailable):
                reader.get_many(users)
            with pytest.raises(Unavailable):
                reader.get(users[0])
            assert time.monotonic() - began_s < 12
            until(lambda: works(reader, users), 30)  # its replica has taken over


def found(reader, user):
    """A user's profile, or None while the store does not answer."""
    try:
        return reader.get(user)
    except Unavailable:
        return None


def works(reader, users):
    """Whether everybody is found again."""
    try:
        return reader.get_many(users).keys() == set(users) and reader.get(users[0]) is not None
    except Unavailable:
        return False
