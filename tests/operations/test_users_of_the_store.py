"""deploy/redis: each user of the store may do what it needs, and nothing else."""

import re
import subprocess
import zlib
from pathlib import Path

import msgspec
import pytest
import redis

from tests.brokers import REDIS, needs_redis
from tests.cli.running import right, wrong
from tests.operations.plant import PASSWORDS, ROOT, guarded_store, until

TEMPLATE = ROOT / "deploy/redis/users.acl"
KEY = "ag:profile:{07}"
CONNECTING = {
    *("ping", "select", "info", "client|setinfo", "client|setname", "command", "readonly"),
    *("cluster|slots", "cluster|shards", "cluster|nodes", "cluster|info", "cluster|keyslot"),
}
"""What clients send by themselves, also where the store is a cluster."""


def granted(user):
    """The commands that the template gives a user on all of its keys."""
    (line,) = re.findall(rf"^user {user} (.+)$", TEMPLATE.read_text(), re.MULTILINE)
    return set(re.findall(r"(?<!\()\+(\S+)", line.partition(" (")[0]))


@pytest.fixture(
    scope="module",
    params=[None, pytest.param(REDIS, marks=[pytest.mark.redis, needs_redis])],
    ids=["embedded", "Debian's Redis"],
)
def store(request, tmp_path_factory):
    with guarded_store(tmp_path_factory.mktemp("store"), request.param) as found:
        with found.client("operator") as client:
            client.hset(KEY, "ann", "profile")
            client.hset("ag:state:{07}", "ann", "state")
            client.set("other:key", "not ours")
        yield found


PEEP = "return redis.call('GET', 'other:key')"
REFUSED = {
    "engine": [
        *(("flushall",), ("keys", "*"), ("config", "get", "*"), ("shutdown",), ("module", "list")),
        *(("acl", "list"), ("get", "other:key"), ("set", "other:key", "x"), ("eval", PEEP, "0")),
        *(("replicaof", "no", "one"), ("monitor",), ("publish", "x", "y"), ("rename", KEY, "x")),
    ],
    "edge": [
        *(("hset", KEY, "ann", "x"), ("hdel", KEY, "ann"), ("hget", "ag:state:{07}", "ann")),
        *(("del", KEY), ("eval", "return 1", "0"), ("keys", "*"), ("get", "ag:trainer")),
        *(("hgetall", "ag:items"), ("xrange", "ag:outbox:{07}", "-", "+"), ("flushdb",)),
    ],
    "serving": [
        *(("hset", KEY, "ann", "x"), ("set", "ag:rules", "x"), ("del", KEY), ("flushall",)),
        *(("hset", "ag:meta", "format", "9"), ("get", "other:key"), ("eval", "return 1", "0")),
        ("hsetnx", "ag:meta", "format", "9"),
    ],
}


@pytest.mark.servers
@pytest.mark.parametrize(
    ("user", "command"), [(user, command) for user, all_ in REFUSED.items() for command in all_]
)
def test_what_is_not_needed_is_refused(store, user, command):
    with (
        store.client(user) as client,
        pytest.raises(redis.RedisError, match=r"(?i)perm|acl|access"),
    ):
        client.execute_command(*command)


@pytest.mark.servers
@pytest.mark.parametrize("user", ["edge", "serving"])
def test_readers_read(store, user):
    with store.client(user) as client:
        assert client.hget(KEY, "ann") == "profile"
        assert client.hmget(KEY, ["ann", "bob"]) == ["profile", None]
        assert client.sscan("ag:members:{07}:vip")[1] == []
        assert client.hgetall("ag:meta") == {}


@pytest.mark.servers
@pytest.mark.parametrize("user", ["edge", "serving"])
def test_commands_that_look_somebody_up_need_no_right_to_write(store, user):
    document = msgspec.msgpack.encode({"user_id": "bob"})
    with store.client("operator") as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 64})
        client.hset(f"ag:profile:{{{zlib.crc32(b'bob') % 64:02d}}}", "bob", document)
    try:
        said = right("profile", "bob", env={"REDIS_URL": store.url(user)})
    finally:
        with store.client("operator") as client:
            client.delete("ag:meta")
    assert msgspec.json.decode(said) == {"user_id": "bob"}


@pytest.mark.servers
def test_a_right_that_lacks_is_said(store):
    with store.client("operator") as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 64})
    try:
        (line,) = wrong("export", env={"REDIS_URL": store.url("edge")})
    finally:
        with store.client("operator") as client:
            client.delete("ag:meta")
    assert "could not be read: the store refuses this user: " in line
    assert "hscan" in line


@pytest.mark.servers
def test_nobody_comes_in_without_a_name(store):
    with redis.Redis(port=store.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.servers
@pytest.mark.slow
def test_an_engine_works_under_its_user_and_asks_for_nothing_more(running):
    # what is sent only in a cluster, at a restart after a crash, or by a person's command
    rare = {"del", "unlink", "hkeys", "smembers", "hscan", "xrevrange", "srem", "hdel"}

    def unused():
        with running.store.client("operator") as client:
            used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        return granted("engine") - used - CONNECTING - rare

    until(lambda: not unused(), 90, lambda: str(unused()))
    with running.store.client("operator") as client:
        denied = [entry for entry in client.acl_log() if entry["username"] != "operator"]
    assert denied == []


def sent():
    """The commands that the sources send, by what is called there."""
    found = set()
    for file in ("store", "meta", "item_store", "definition_store"):
        source = (ROOT / f"state/{file}.py").read_text()
        found |= set(re.findall(r"(?:client|pipe)\.([a-z]+)\(", source))
        found |= {name.lower() for name in re.findall(r"redis\.call\('([A-Z]+)'", source)}
        found |= {"hscan"} if "hscan_iter" in source else set()
    command = (ROOT / "state/commit_command.py").read_text()
    found |= {name.lower() for name in re.findall(r'b"([A-Z]+)"', command)}
    body = (ROOT / "state/commit_writing.py").read_text()
    found |= {name.lower() for name in re.findall(r'"([A-Z]+)"', body)}
    script = (ROOT / "state/commit.lua").read_text()
    found |= {name.lower() for name in re.findall(r"redis\.call\('([A-Z]+)'", script)}
    renamed = {"delete": "del", "execute": None, "pipeline": None, "close": None}
    return {renamed.get(name, name) for name in found} - {None} | {"evalsha", "script|load"}


def test_the_engine_is_given_what_the_sources_send_and_no_more():
    assert granted("engine") - CONNECTING == sent() - CONNECTING


@pytest.mark.parametrize("password", ["", "with space", "a/b", "x'y"])
def test_a_password_that_cannot_be_is_said(tmp_path, password):
    env = {**PASSWORDS, "EDGE_PASSWORD": password, "PATH": "/usr/bin:/bin"}
    env["ACL_OUT"] = str(tmp_path / "users.acl")
    done = subprocess.run(
        [ROOT / "deploy/redis/start"], env=env, capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 2
    assert "EDGE_PASSWORD must" in done.stderr
    assert not Path(env["ACL_OUT"]).exists()
