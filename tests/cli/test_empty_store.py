"""Commands on a store in which no engine has ever run: they say so, and leave no trace."""

import pytest
import redis

from state.store import Store
from tests.cli.running import afterglow, wrong

pytestmark = pytest.mark.servers
RULES = "[winter]\nexclude = \"category == 'coats'\"\n"
COMMANDS = [
    *("profile ann", "export", "explain ann vip", "recommend ann", "recommend ann shoes"),
    *("segments list", "segments history", "segments export", "segments pause vip --note stop"),
    *("segments apply FILE", "rules set RULES", "rules list", "rules clear", "models list"),
    *("models reset purchase_7d", "verify"),
]


@pytest.fixture
def files(tmp_path):
    """The files that commands name."""
    (segments := tmp_path / "segments.toml").write_text('[segments.busy]\nenter = "intent > 1"\n')
    (rules := tmp_path / "rules.toml").write_text(RULES)
    return {"FILE": segments, "RULES": rules}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_without_data_is_said_and_left_as_it_is(store_url, files, command):
    words = [files.get(word, word) for word in command.split()]
    env = {"REDIS_URL": store_url, "KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    done = afterglow(*words, "--set", "redis.prefix=zz", env=env)
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert line.startswith(
        "afterglow: the store holds no Afterglow data under the prefix 'zz': there is no 'zz:meta'"
    )
    assert "check the address, its database number and the prefix" in line.lower()
    with redis.Redis.from_url(store_url) as client:
        assert client.keys() == []


def test_what_was_begun_with_other_shards_is_refused(store_url):
    Store(store_url).meta.begin()
    (line,) = wrong("profile", "ann", "--set", "redis.shards=128", env={"REDIS_URL": store_url})
    assert line.startswith("afterglow: the store's data under 'ag:meta' have shards 64, but the")
