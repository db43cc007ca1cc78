"""Users forgotten while the whole engine is killed again and again: gone, exact, and without a gap.

A shop whose users come and go within seconds; the engine remembers them for five. In the end the
stored profiles are those that the log makes of the users' present lives, the store holds nothing of
anybody else, and who folds the change topic, or follows it with the client, has what the store has.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import pytest

import tests.test_kills as kills
from afterglow_client.changes import Changes
from dataflows.settings import load
from dataflows.verifying import verify
from events.shop import Habits
from tests.cli.running import right
from tests.folding import documents, unique
from tests.oracle.batch import read_events
from tests.test_kills import opened, read_all

pytestmark = [pytest.mark.servers, pytest.mark.slow]

DAY_MS: Final = 86_400_000
CDNOW: Final = Path(__file__).parents[2] / "shared" / "data" / "cdnow.csv.gz"

SETS: Final = (
    *("metrics.address=", "retention.after=5s", "retention.every=200ms", "retention.at_once=50"),
    *("rfm.window=2s", "orders.keep=4s", "session.gap=1s", "session.return_gap=2s", "cart.ttl=2s"),
    *("dedup.window=3s", "events.max_ahead=1s", "lane.lateness=1s", "segments.vip.min_dwell=0s"),
    'features.views_7d={ kind = "count", window = "4s", panes = 4, types = ["product_view"] }',
    *("offers.welcome_back.for=2s", "offers.welcome_back.cap_window=3s"),
    *("offers.vip_discount.for=2s", "offers.vip_discount.cooldown=2s"),
    *("models.every=1s", "models.rate=1.0", "models.tasks.purchase_7d.horizon=2s"),
    *("models.tasks.purchase_30d.horizon=3s", "models.tasks.churn_30d.horizon=3s"),
    *("models.value.horizon=2s", "recommend.not_again=2s", "recommend.gap=2s"),
    *("recommend.validity=2s", "segments.away.enter=age(last_seen) >= 2s"),
)
KILLS: Final = 8
RATE: Final = 250
HABITS: Final = Habits(users=1_000, rate_per_s=RATE, zipf=0.9, late_s=0.2, follow_up_s=0.2)
"""Late events, and refunds, come while ids of events and orders are known."""


def test_users_come_and_go_through_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "SETS", SETS)
    monkeypatch.setattr(kills, "RATE", RATE)
    monkeypatch.setattr(kills, "HABITS", HABITS)
    chance = random.Random(3)
    with opened(tmp_path, seed=3) as scene:
        scene.until_committed()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 3.0))
            scene.until_committed()
            scene.kill_engine()
        time.sleep(6.0)
        scene.finish()
        assert scene.exits == []
        records = [m.value() or b"" for m in read_all(scene.broker.bootstrap, "segment-changes")]
        changes = unique(records)
        causes = Counter(change.cause.kind for change in changes)
        assert causes["retention"] > 300, causes

        env = {"KAFKA_BOOTSTRAP": scene.broker.bootstrap}
        report = verify(load(sets=SETS, env=env), scene.store)
        assert report.differences == []
        assert report.events == len(scene.shop.good)

        found, store = documents(scene.store), scene.store
        assert 0 < len(found) < len(scene.shop.ledger.accounts)
        held: dict[str, list[str]] = {}
        place: dict[str, tuple[int, int]] = {}
        for change in changes:
            epoch, n = place.get(change.user_id, (0, 0))
            assert (change.epoch, change.n) > (epoch, n)
            assert change.n == n + 1 or (change.n == 1 and change.epoch > epoch), change
            assert {*held.get(change.user_id, ())} ^ {change.segment} == {*change.segments}
            held[change.user_id] = change.segments
            place[change.user_id] = change.epoch, change.n
        for user, segments in held.items():
            assert {*segments} == {*found.get(user, {"segments": ()})["segments"]}, user
        for user, document in found.items():
            assert document["changes"] in (0, place.get(user, (0, 0))[1])
        names = {name for segments in held.values() for name in segments}
        names |= {change.segment for change in changes}
        for shard in range(store.shards):
            for kind in ("state", "candidates"):
                assert {user.decode() for user in store.fields(kind, shard)} <= found.keys()
            for name in names:
                members = store.members(shard, name)
                assert all(name in found[user]["segments"] for user in members)

        members: dict[bytes, bytes | None] = {}
        for message in read_all(scene.broker.bootstrap, "memberships"):
            members[message.key() or b""] = message.value()
        left = {user.decode(): raw for user, raw in members.items() if raw is not None}
        assert left.keys() <= found.keys()
        for user, raw in left.items():
            assert {*msgspec.json.decode(raw)["segments"]} == {*found[user]["segments"]}

        config = {"bootstrap.servers": scene.broker.bootstrap, "log_level": 0}
        for begin in ("now", "beginning"):
            with Changes(config, begin=begin, patience_s=0.1) as following:
                deadline_s = time.monotonic() + 60
                while not following.is_settled:
                    assert time.monotonic() < deadline_s
                    following.poll(0.1)
                assert following.counts.missed == following.counts.corrections == 0, begin
                heard = {user: {*own} for user, own in following.everyone()}
            assert heard.keys() <= found.keys()
            for user, document in found.items():
                assert heard.get(user, set()) == {*document["segments"]}, (begin, user)


@pytest.mark.data
@pytest.mark.skipif(not CDNOW.exists(), reason="the real events are not on this machine")
@pytest.mark.parametrize("partitions", [1, 3])
def test_a_replay_of_a_real_log_forgets_as_the_log_says(tmp_path: Path, partitions: int) -> None:
    after_ms = 100 * DAY_MS
    log = read_events(CDNOW).sort("ts", maintain_order=True)
    lives: dict[str, list[tuple[int, int]]] = {}
    forgotten = 0
    for user, ts, amount in log.select("user_id", "ts", "amount_minor").iter_rows():
        own = lives.setdefault(user, [])
        if own and own[-1][0] + after_ms <= ts:
            own.clear()
            forgotten += 1
        own.append((ts, amount))
    until_ms = max(own[-1][0] for own in lives.values())
    present = {user: own for user, own in lives.items() if own[-1][0] + after_ms > until_ms}
    forgotten += len(lives) - len(present)
    profiles, changes = tmp_path / "profiles.jsonl", tmp_path / "changes.jsonl"
    right(
        *("replay", str(CDNOW), "--map", "type=event_type", "--partitions", str(partitions)),
        *("--export", str(profiles), "--changes", str(changes), "--set", "retention.after=100d"),
        *("--set", "models.enabled=false", "--set", "recommend.enabled=false"),
        *("--set", "logs.level=warning"),
    )
    found = {d["user_id"]: d for d in map(msgspec.json.decode, profiles.read_bytes().splitlines())}
    assert found.keys() == present.keys()
    for user, own in present.items():
        lifetime = found[user]["lifetime"]
        assert (lifetime["events"], found[user]["first_seen"]) == (len(own), own[0][0])
        assert lifetime["spend"] == sum(amount for _, amount in own)
    told = [msgspec.json.decode(line) for line in changes.read_bytes().splitlines()]
    ends = {(c["user_id"], c["ts"]) for c in told if c["cause"]["kind"] == "retention"}
    assert len(ends) == forgotten > 30_000
