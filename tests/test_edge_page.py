"""``docs/edge.md``: what stands there is run as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from afterglow_client import Reader
from tests.cli.running import CLEAN
from tests.serving.afterglow_client.stores import fill

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/edge.md").read_text()


def block(language, number=0):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[number]


def test_the_python_lines_run(store_url):
    filled = fill(store_url, users=20, events=300)
    user = next(user for user, document in filled.profiles.items() if document["segments"])
    text = block("python").replace('"ann"', repr(user)).replace('"vip"', '"champions"')
    text = text.replace("redis://127.0.0.1:6379", store_url)
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**CLEAN, "PYTHONPATH": str(ROOT / "serving")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    with Reader(store_url) as reader:
        assert done.stdout.startswith(f"{reader.segments(user)}\nProfile(user_id={user!r}")


def test_the_rights_that_are_named_are_enough(store_url):
    fill(store_url, users=20, events=300)
    rule = next(line for line in PAGE.splitlines() if line.startswith("ACL SETUSER"))
    with redis.Redis.from_url(store_url) as client:
        client.execute_command(*rule.replace("PASSWORD", "pw").split())
        with Reader(store_url.replace("redis://", "redis://edge:pw@")) as reader:
            sizes = reader.sizes()
            for name in sizes:
                assert len(list(reader.members(name))) == sizes[name]
            assert reader.get_many(["u000001"]).keys() <= {"u000001"}
        client.execute_command("ACL", "DELUSER", "edge")


def test_the_rights_that_are_named_are_enough_in_a_cluster(embedded_cluster):
    rule = next(line for line in PAGE.splitlines() if line.startswith("ACL SETUSER"))
    more = (
        re.search(r"In a cluster also (.*)\.", PAGE)[1]
        .replace("`", "")
        .replace(" and ", ", ")
        .split(", ")
    )
    with redis.RedisCluster.from_url(embedded_cluster.url) as client:
        client.flushall(target_nodes="primaries")
        filled = fill(embedded_cluster.url, users=20, events=300)
        asked = *rule.replace("PASSWORD", "pw").split(), *more
        client.execute_command(*asked, target_nodes="all")
        with Reader(embedded_cluster.url.replace("redis://", "redis://edge:pw@")) as reader:
            assert reader.get_many(filled.profiles).keys() == filled.profiles.keys()
            assert sum(reader.sizes().values()) == sum(map(len, filled.members.values()))
        client.execute_command("ACL", "DELUSER", "edge", target_nodes="all")


@pytest.mark.node
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs Node.js, npm")
def test_the_lines_for_node_say_what_the_client_says(store_url, tmp_path):
    filled = fill(store_url)
    packages = re.search(r"`npm install ([^`]+)`", PAGE)[1].split()
    got = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", *packages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    if got.returncode:
        pytest.skip(f"npm could not install {packages}: {got.stderr[-300:]}")
    (tmp_path / "edge.mjs").write_text(block("js"))
    with Reader(store_url) as reader:
        known = [user for user in filled.profiles if reader.segments(user)]
        for user in [*known[:5], "nobody", "ö"]:
            done = subprocess.run(
                ["node", "edge.mjs", user],
                cwd=tmp_path,
                env={**CLEAN, "REDIS_URL": store_url},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            assert re.findall(r"'([^']+)'", done.stdout) == list(reader.segments(user))
