"""Profiles, batches, lists and segments over HTTP equal what the store holds."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec
import pytest

from afterglow_client import AsyncReader, Unavailable
from afterglow_client.documents import candidates_of, profile_of
from dataflows.explaining_items import explain_item
from serving.api import answers
from serving.api.app import Api, build
from serving.api.lookups import Lookups
from serving.api.parts import Parts
from serving.api.terms import Terms
from tests.serving.api.conftest import Filled
from tests.serving.api.serving import application, ask, lines

pytestmark = pytest.mark.servers


def test_every_profile_is_the_stored_one(filled: Filled) -> None:
    with filled.reader() as reader:
        held = reader.get_many(filled.users)
    body = json.dumps({"user_ids": [*filled.users, "nobody", filled.users[0]]}).encode()
    got = ask(application(filled.url), "/v1/profiles", "POST", body=body)
    assert (got.status, got.json["unknown"]) == (200, ["nobody"])
    assert list(got.json["profiles"]) == filled.users
    assert len(filled.users) > 100  # more than are read at once
    for user, document in got.json["profiles"].items():
        whole = json.loads(msgspec.json.encode(held[user].document))
        assert document["segments"] == {n: whole["segments"][n] for n in held[user].segments}
        assert {**whole, "segments": 0, "offers": 0, "scores": 0} == {
            **document,
            "segments": 0,
            "offers": 0,
            "scores": 0,
        }
        single = ask(application(filled.url), f"/v1/profiles/{user}")
        assert (single.status, single.json) == (200, document)
        if user == filled.users[20]:
            break


@pytest.mark.parametrize("users", [[], ["nobody"]])
def test_a_batch_without_anybody(filled: Filled, users: list[str]) -> None:
    body = json.dumps({"user_ids": users}).encode()
    got = ask(application(filled.url), "/v1/profiles", "POST", body=body)
    assert got.json == {"profiles": {}, "unknown": users}


def test_what_has_run_out_is_left_out_and_changes_the_tag(filled: Filled) -> None:
    with filled.reader() as reader:
        ending = [p for p in reader.get_many(filled.users).values() if p.valid_to_ms]
    profile = ending[0]
    assert profile.valid_to_ms is not None
    tags, path = [], f"/v1/profiles/{profile.user_id}"
    for now_ms in (profile.valid_to_ms - 1, profile.valid_to_ms):
        app = application(filled.url)
        reader = AsyncReader(filled.url, timeout_s=5.0, clock_ms=lambda at=now_ms: at)
        app = build(Parts(reader, clock_ms=lambda at=now_ms: at))
        got = ask(app, path)
        tags.append(got.headers["etag"])
        expected = profile.at(now_ms)
        assert list(got.json["segments"]) == list(expected.segments)
        assert got.json["offers"] == json.loads(msgspec.json.encode(expected.offers))
        scores = {n: v for n, v in got.json["scores"].items() if v is not None and n != "valid_to"}
        assert scores == expected.scores
    assert tags[0] != tags[1]
    assert tags[0].startswith(f'"{profile.commit}-')


def test_a_client_that_has_it_is_told_so(filled: Filled) -> None:
    path = f"/v1/profiles/{filled.users[0]}"
    tag = ask(application(filled.url), path).headers["etag"]
    again = ask(application(filled.url), path, headers={"If-None-Match": f'"0-0", W/{tag}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    packed = ask(
        application(filled.url),
        path,
        headers={"If-None-Match": tag, "Accept": "application/msgpack"},
    )
    assert packed.status == 200  # the same in another form is not the same answer


def test_a_commit_that_was_counted_twice_is_not_taken_for_the_same(filled: Filled) -> None:
    """After a set-back of the store other content comes under the same number."""
    now_ms = int(time.time() * 1000)
    with filled.reader() as reader:
        profile = reader.get(filled.users[0])
        listed = next(c for c in map(reader.candidates, filled.users) if c is not None)
    assert profile is not None
    other = profile_of(msgspec.msgpack.encode({**profile.document, "changes": 1 << 40}), now_ms)
    assert other.commit == profile.commit
    assert answers.profile_tag(other, msgpack=False) != answers.profile_tag(profile, msgpack=False)
    again = candidates_of(msgspec.msgpack.encode({**listed.document, "items": []}), now_ms)
    assert answers.candidates_tag(again, msgpack=True) != answers.candidates_tag(
        listed, msgpack=True
    )


def test_messagepack_is_the_stored_bytes(filled: Filled) -> None:
    user = filled.users[1]
    with filled.reader() as reader:
        raw = reader.get(user).raw  # type: ignore[union-attr]
    got = ask(
        application(filled.url), f"/v1/profiles/{user}", headers={"Accept": "application/msgpack"}
    )
    assert (got.body, got.headers["content-type"]) == (raw, "application/msgpack")


@pytest.mark.parametrize("left_ms", [500, 10_000, 90_000])
def test_caches_keep_it_no_longer_than_it_holds(filled: Filled, left_ms: int) -> None:
    with filled.reader() as reader:
        profile = next(p for p in reader.get_many(filled.users).values() if p.valid_to_ms)
    now_ms = (profile.valid_to_ms or 0) - left_ms
    reader_at = AsyncReader(filled.url, timeout_s=5.0, clock_ms=lambda: now_ms)
    app = build(Parts(reader_at, terms=Terms(max_age_s=60.0), clock_ms=lambda: now_ms))
    got = ask(app, f"/v1/profiles/{profile.user_id}")
    kept = {500: "private, no-cache", 10_000: "private, max-age=10", 90_000: "private, max-age=60"}
    assert got.headers["cache-control"] == kept[left_ms]


def test_both_ways_to_a_profile_give_the_same(filled: Filled) -> None:
    """The short way and the routed one, for answers and for errors."""
    for user, headers in (
        (filled.users[0], {}),
        ("nobody", {}),
        ("a%00b", {}),
        ("x" * 129, {}),
        (filled.users[2], {"Accept": "application/msgpack"}),
        (filled.users[2], {"If-None-Match": "*"}),
    ):
        short, routed = application(filled.url), application(filled.url)
        routed.gate._app = routed.routes
        one, other = (
            ask(each, f"/v1/profiles/{user}", headers=headers) for each in (short, routed)
        )
        assert (one.status, one.body) == (other.status, other.body)
        assert sorted(one.headers.items()) == sorted(other.headers.items())


@pytest.mark.parametrize("user", ["a/b", "ä ü", "?", "%2F", "#x", "a+b", "日本"])
def test_any_id_can_be_asked_for(filled: Filled, user: str) -> None:
    got = ask(application(filled.url), f"/v1/profiles/{quote(user, safe='')}")
    assert got.status == 404
    assert repr(user) in got.json["detail"]


def test_a_list_is_the_stored_one(filled: Filled) -> None:
    with filled.reader() as reader:
        user = next(u for u in filled.users if reader.candidates(u))
        held = reader.candidates(user)
    assert held is not None
    got = ask(application(filled.url), f"/v1/candidates/{user}")
    assert got.json == {**json.loads(msgspec.json.encode(held.document)), "valid": True}
    short = ask(application(filled.url), f"/v1/candidates/{user}?limit=1")
    assert short.json["items"] == got.json["items"][:1]
    tags = {got.headers["etag"], short.headers["etag"]}
    assert len(tags) == 2
    same = ask(
        application(filled.url),
        f"/v1/candidates/{user}",
        headers={"If-None-Match": got.headers["etag"]},
    )
    assert same.status == 304


def test_segments_and_their_members(filled: Filled) -> None:
    listed = ask(application(filled.url), "/v1/segments").json["segments"]
    with filled.reader() as reader:
        assert {s["name"]: s["members"] for s in listed} == reader.sizes()
        for name in [s["name"] for s in listed][:7]:
            got = ask(application(filled.url), f"/v1/segments/{name}/members")
            *members, last = lines(got)
            assert {m["user_id"] for m in members} == set(reader.members(name))
            assert last == {"members": len(members)}


@pytest.mark.parametrize("count", [0, 1, 700])
def test_a_list_of_members_that_breaks_off_says_so(
    filled: Filled, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def members(_self: AsyncReader, _segment: str) -> AsyncIterator[str]:
        for n in range(count):
            yield f"u{n}"
        raise Unavailable("gone")

    monkeypatch.setattr(AsyncReader, "members", members)
    got = ask(application(filled.url), "/v1/segments/vip/members")
    if not count:
        assert got.status == 503
        return
    *listed, last = lines(got)
    assert len(listed) == count
    assert last["problem"]["type"].endswith("store-away")


def test_why_an_item_is_shown(filled: Filled) -> None:
    with filled.reader() as reader:
        user = next(u for u in filled.users if reader.candidates(u))
        item = reader.candidates(user).items[0]  # type: ignore[union-attr]
    app = application(filled.url, explain_item=explain_item)
    got = ask(app, f"/v1/explanations?user_id={user}&kind=item&name={item}")
    assert got.json["text"].startswith(f"{item} is number 1 of ")


def test_requests_at_once_share_questions(filled: Filled) -> None:
    """Many at once, with doubles and with some that go away, in far fewer questions."""

    async def run() -> tuple[int, int]:
        questions = 0

        class Counted(AsyncReader):
            async def get_many(self, user_ids):  # type: ignore[no-untyped-def]
                nonlocal questions
                questions += 1
                return await super().get_many(user_ids)

            async def get(self, user_id):  # type: ignore[no-untyped-def]
                nonlocal questions
                questions += 1
                return await super().get(user_id)

        async with Counted(filled.url, timeout_s=5.0) as reader:
            lookups = Lookups(reader)
            asked = [*filled.users[:100], *filled.users[:50], "nobody"]
            tasks = [asyncio.ensure_future(lookups.get(user)) for user in asked]
            await asyncio.sleep(0)
            tasks[3].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[3], asyncio.CancelledError)
            right = [
                p.user_id == user
                for user, p in zip(asked, found, strict=True)
                if p is not None and not isinstance(p, BaseException)
            ]
            assert found[-1] is None
            assert all(right)
            return len(right), questions

    answered, questions = asyncio.run(run())
    assert answered == 149
    assert questions <= 3


def test_one_that_cannot_be_read_spoils_no_other(filled: Filled) -> None:
    with filled.client() as client:
        name = next(n for n in map(str, range(10_000)) if zlib.crc32(n.encode()) % 64 == 0)
        client.hset("ag:profile:{00}", name, b"\xc1")

    async def run(app: Api) -> list[object]:
        lookups = Lookups(app.parts.reader)
        first = asyncio.ensure_future(lookups.get(filled.users[0]))
        await asyncio.sleep(0)
        rest = [lookups.get(user) for user in (filled.users[1], name, filled.users[2])]
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        await app.parts.reader.close()
        return list(found)

    try:
        first, second, broken, third = asyncio.run(run(application(filled.url)))
        assert type(broken).__name__ == "NotAfterglow"
        assert [p.user_id for p in (first, second, third)] == filled.users[:3]  # type: ignore[attr-defined]
        assert ask(application(filled.url), f"/v1/profiles/{name}").status == 503
    finally:
        with filled.client() as client:
            client.hdel("ag:profile:{00}", name)
