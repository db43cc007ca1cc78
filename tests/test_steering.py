"""Catalogue and rules against a running engine: what is in Redis within seconds."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import pytest
from confluent_kafka import Producer

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from state.store import Store
from tests.brokers import new_broker
from tests.cli.running import right, wrong

pytestmark = [pytest.mark.servers, pytest.mark.slow]

WITHIN_S: Final = 5.0
USERS: Final = 400
ITEMS: Final = 40
SETS: Final = ("--set", "metrics.address=")


class Shop:
    """A running engine of two workers, its store, and a producer of events."""

    def __init__(self, env: Mapping[str, str], engine: Engine) -> None:
        self.env, self.engine = env, engine
        self.store = Store(env["REDIS_URL"])
        self._producer = Producer({"bootstrap.servers": env["KAFKA_BOOTSTRAP"], "log_level": 0})
        self._count = 0

    def views(self, pairs: list[tuple[str, str]]) -> None:
        now_ms = time.time_ns() // 1_000_000
        for user, item in pairs:
            self._count += 1
            event = {"event_id": f"e{self._count}", "user_id": user, "type": "product_view"}
            event |= {"ts": now_ms + self._count, "item_id": item}
            self._producer.produce("events", msgspec.json.encode(event), user)
        assert self._producer.flush(20) == 0

    def list_of(self, user: str) -> list[str]:
        raw = self.store.candidates(zlib.crc32(user.encode()) % 64, user)
        return [] if raw is None else [i["item_id"] for i in msgspec.msgpack.decode(raw)["items"]]

    def lists(self) -> list[list[str]]:
        return [self.list_of(f"u{n}") for n in range(USERS)]

    def until(self, question: Callable[[], bool], seconds: float = 60.0) -> float:
        """How long it took."""
        begun_s = time.monotonic()
        while not question():
            assert time.monotonic() < begun_s + seconds, f"not within {seconds} s: " + self.tail()
            time.sleep(0.05)
        return time.monotonic() - begun_s

    def tail(self) -> str:
        return "\n".join(self.engine.log.read_text().splitlines()[-30:])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Everybody has a list, and half of the items are in the catalogue."""
    folder = tmp_path_factory.mktemp("steering")
    kafka = load(env={}).kafka
    with EmbeddedStore() as store, new_broker() as broker:
        broker.create(kafka.events, kafka.dead, kafka.changes)
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        file = folder / "items.jsonl"
        file.write_text("".join(line_of(n) for n in range(ITEMS // 2)))
        said = right("catalog", "publish", file, env=env)
        assert said == f"{ITEMS // 2} items published to catalog, 0 bad, 0 failed\n"
        engine = Engine(["--workers", "2", *SETS], env, folder / "engine.log")
        engine.start()
        try:
            shop = Shop(env, engine)
            for k in range(3):
                shop.views([(f"u{n}", f"i{(n + k) % ITEMS}") for n in range(USERS)])
            shop.until(lambda: all(len(found) >= 10 for found in shop.lists()), 240)
            yield shop
            code = engine.stop()
        finally:
            engine.kill()
        assert code == 0, engine.log.read_text()


def line_of(number: int, **more: object) -> str:
    brand = "acme" if number % 5 == 0 else "other"
    return json.dumps({"item_id": f"i{number}", "brand": brand, "price": number, **more}) + "\n"


def test_an_item_that_is_not_available_leaves_all_lists(shop: Shop, tmp_path: Path) -> None:
    assert sum("i3" in found for found in shop.lists()) > USERS // 10
    (file := tmp_path / "one.jsonl").write_text(line_of(3, available=False))
    right("catalog", "publish", file, env=shop.env)
    took_s = shop.until(lambda: not any("i3" in found for found in shop.lists()), WITHIN_S)
    shop.views([(f"u{n}", "i4") for n in range(0, USERS, 7)])
    time.sleep(1)
    assert not any("i3" in found for found in shop.lists())
    assert json.loads(right("catalog", "show", "i3", env=shop.env))["available"] is False
    print(f"left {USERS} lists in {took_s:.2f} s")


def test_an_item_that_is_taken_out_leaves_all_lists(shop: Shop) -> None:
    assert any("i6" in found for found in shop.lists())
    right("catalog", "remove", "i6", env=shop.env)
    shop.until(lambda: not any("i6" in found for found in shop.lists()), WITHIN_S)
    (line,) = wrong("catalog", "show", "i6", env=shop.env)
    assert line == "afterglow: the catalogue 'catalog' holds no item 'i6'"


def test_rules_take_effect_and_are_taken_back(shop: Shop, tmp_path: Path) -> None:
    acme = {f"i{n}" for n in range(0, ITEMS // 2, 5)}
    file = tmp_path / "rules.toml"
    file.write_text(
        "[no_acme]\nexclude = 'brand == \"acme\"'\n[front]\npin = {items = ['i33'], place = 2}\n"
    )
    assert any(acme & set(found) for found in shop.lists())
    assert right("rules", "set", file, env=shop.env).startswith("2 rules set")

    def hold() -> bool:
        lists = shop.lists()
        seen_last = sum("i33" not in found for found in lists)
        return not any(acme & set(found) for found in lists) and seen_last <= USERS // ITEMS + 1

    took_s = shop.until(hold, WITHIN_S)
    assert all(found.index("i33") == 1 for found in shop.lists() if "i33" in found)
    shown = right("rules", "list", env=shop.env)
    assert "no_acme" in shown
    assert right("rules", "clear", env=shop.env) == "the rules of the settings hold again\n"
    back_s = shop.until(lambda: any(acme & set(found) for found in shop.lists()), WITHIN_S)
    print(f"rules held in {took_s:.2f} s and were gone in {back_s:.2f} s")


def test_what_is_wrong_with_rules_is_said(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    for text, said in (
        ("[a]\nexclude = 'brnad == 1'", "a.exclude: there is no feature 'brnad'"),
        ("[a]\nexclud = ''", "a.exclud: there is no such setting; did you mean 'exclude'?"),
        ("[a]\npin = {items = []}", "a.pin.items"),
        ("[a]\nvalid_from = 2026-01-01", "a.valid_from"),
        ("a = ", "is neither TOML"),
        ("[a]\nexclude = 'tged(\"sale\")'", "no function 'tged'; did you mean 'tagged'?"),
        ("[recommend.rules.a]\nexclud = ''", "a.exclud: there is no such setting"),
        ("", "must hold a table for each rule, such as [winter], but is empty"),
    ):
        file.write_text(text)
        assert said in wrong("rules", "set", file, env=shop.env)[0]
