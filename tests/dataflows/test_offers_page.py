"""The page about offers: its example is declared as it stands there, and profiles look so."""

import json
import re
from pathlib import Path

import msgspec
import numpy as np

from dataflows import plans
from dataflows.settings import load
from events.decode import Decoder
from state.lane import Lane
from state.times import DAY_MS
from tests.state.streams import read_of

PAGE = (Path(__file__).parents[2] / "docs" / "offers.md").read_text("utf-8")
BACK_MS = 1_790_000_000_000


def block(kind: str) -> str:
    """The page's only block of a kind."""
    (text,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return text


def test_the_example_is_given_and_shown_as_the_page_says(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(block("toml"))
    settings = load(path, env={})
    plans.check(settings)
    lane = Lane(plans.lane_plan(settings), range(64))
    visits = [
        {"event_id": f"{ts}", "user_id": "ann", "type": "page_view", "ts": ts}
        for ts in (BACK_MS - 40 * DAY_MS, BACK_MS)
    ]
    for offset, visit in enumerate(visits):
        batch, _ = Decoder(plans.event_rules(settings))(read_of([visit], offset))
        lane.apply(batch)
    (raw,) = lane.portraits.encode(np.arange(1)).bytes_list()
    assert msgspec.msgpack.decode(raw)["offers"] == json.loads(block("json"))


def test_every_key_of_an_offer_is_explained():
    schema = type(load(env={})).model_json_schema()["$defs"]
    for name in schema["OfferSettings"]["properties"]:
        assert f"| `{name}` |" in PAGE
    for name in schema["OfferRules"]["properties"]:
        assert f"| `offer_rules.{name}` |" in PAGE
