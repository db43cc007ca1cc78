"""The fold, on histories that were lost, repeated and reordered in every way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow_client import NotAfterglow
from afterglow_client.fold import Fold
from afterglow_client.news import Change, Standing

SEGMENTS = ("vip", "lapsing", "away", "champions")
USERS = ("ann", "bob", "eve")


def change(user_id, epoch, n, segment, segments, action=None):
    return Change(
        id=f"{user_id}-{epoch}-{n}",
        user_id=user_id,
        segment=segment,
        action=action or ("entered" if segment in segments else "exited"),
        ts=n,
        decided_at=n,
        version=1,
        epoch=epoch,
        n=n,
        segments=sorted(segments),
        cause={"kind": "event"},
    )


@st.composite
def histories(draw, lost=False):
    """What an engine published, in order; with ``lost``, its store was set back now and then."""
    places = {user: (1, 0, frozenset()) for user in USERS}
    published = []
    for _ in range(draw(st.integers(0, 40))):
        user = draw(st.sampled_from(USERS))
        epoch, n, held = places[user]
        turn = draw(st.integers(0, 9))
        if turn == 0:
            epoch += 1  # the engine was started again
        elif turn == 1 and lost:
            epoch, n = epoch + 1, draw(st.integers(0, n))
            held = frozenset(draw(st.sets(st.sampled_from(SEGMENTS))))
        held ^= {segment := draw(st.sampled_from(SEGMENTS))}
        published.append(change(user, epoch, n + 1, segment, held))
        places[user] = epoch, n + 1, held
    return published


@st.composite
def meddled(draw, published):
    """The same with some lost, some repeated, some moved."""
    came = [c for c in published for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3))))]
    for _ in range(draw(st.integers(0, 10)) if came else 0):
        i, j = (draw(st.integers(0, len(came) - 1)) for _ in range(2))
        came[i], came[j] = came[j], came[i]
    return came


class Listener:
    """Believes what it is told, and finds fault with what cannot be."""

    def __init__(self):
        self.held, self.heard, self.places = {}, [], {}

    def hear(self, news):
        for piece in news:
            held = self.held.setdefault(piece.user_id, set())
            assert not held & set(piece.entered), piece
            assert held >= set(piece.exited), piece
            held |= set(piece.entered)
            held -= set(piece.exited)
            assert sorted(held) == sorted(piece.segments), piece
            assert self.places.get(piece.user_id, (0, -1)) <= (piece.epoch, piece.n)
            self.places[piece.user_id] = piece.epoch, piece.n
            if isinstance(piece, Change):
                self.heard.append(piece.id)


def truth(published):
    """Where everybody stands in the end: by the newest record of each."""
    newest = {}
    for c in published:
        if c.user_id not in newest or (c.epoch, c.n) > newest[c.user_id][:2]:
            newest[c.user_id] = c.epoch, c.n, tuple(c.segments)
    return newest


def standings(published):
    return [Standing(user, e, n, list(held)) for user, (e, n, held) in truth(published).items()]


@given(st.data(), st.booleans())
def test_whatever_is_lost_repeated_or_moved_it_ends_at_the_truth(data, lost):
    published = data.draw(histories(lost=lost))
    fold, listener = Fold(), Listener()
    for c in data.draw(meddled(published)):
        listener.hear(fold.change(c))
        if data.draw(st.integers(0, 9)) == 0:
            fold = Fold.restored(fold.dump())
    for standing in standings(published):
        listener.hear(fold.settle(standing))
        assert fold.settle(standing) == []
    told = {user: tuple(sorted(held)) for user, held in listener.held.items()}
    assert {u: s for u, s in told.items() if s} == {u: s for u, s in fold.everyone() if s}
    for user, (epoch, n, held) in truth(published).items():
        assert fold.place(user) == (epoch, n)
        assert fold.segments(user) == held
    assert len(listener.heard) == len(set(listener.heard))


@given(st.data())
def test_what_is_not_told_is_counted(data):
    published = data.draw(histories())
    fold = Fold()
    for c in data.draw(meddled(published)):
        fold.change(c)
    fold = Fold.restored(fold.dump())
    for standing in standings(published):
        fold.settle(standing)
    assert fold.counts.changes + fold.counts.missed == len(published)


@given(histories())
def test_what_comes_in_order_is_told_as_it_is(published):
    fold = Fold()
    assert [news for c in published for news in fold.change(c)] == published
    assert [fold.settle(standing) for standing in standings(published)] == [[]] * len(
        truth(published)
    )


def test_a_gap_takes_the_user_to_where_the_change_begins():
    fold = Fold()
    fold.change(change("ann", 1, 1, "vip", {"vip"}))
    correction, told = fold.change(change("ann", 1, 3, "vip", {"away"}))
    assert (correction.entered, correction.exited) == (("away",), ())
    assert (correction.missed, correction.reason, correction.n) == (1, "gap", 2)
    assert told.exited == ("vip",)
    assert fold.change(change("ann", 1, 2, "away", {"vip", "away"})) == []


def test_changes_that_cancel_each_other_are_said_though_nothing_is_different():
    fold = Fold()
    fold.change(change("ann", 1, 1, "vip", {"vip"}))
    correction, _ = fold.change(change("ann", 1, 4, "away", {"vip", "away"}))
    assert (correction.entered, correction.exited, correction.missed) == ((), (), 2)


def test_another_course_of_history_is_said():
    fold = Fold()
    fold.change(change("ann", 1, 1, "vip", {"vip"}))
    correction, _ = fold.change(change("ann", 2, 1, "away", {"away"}))
    assert (correction.exited, correction.reason) == (("vip",), "history")
    assert fold.change(change("ann", 1, 2, "lapsing", {"vip", "lapsing"})) == []


def test_a_user_who_is_removed_leaves_all_segments():
    fold = Fold()
    fold.load(Standing("ann", 1, 3, ["vip"]))
    (news,) = fold.forget("ann", (1, 3))
    assert (news.exited, news.reason) == (("vip",), "gone")
    assert len(fold) == 0
    assert fold.forget("ann", (1, 3)) == []
    fold.load(Standing("ann", 1, 4, ["vip"]))
    assert fold.forget("ann", (1, 3)) == []  # came back meanwhile


def test_a_user_who_was_forgotten_begins_anew_and_nothing_is_corrected():
    fold = Fold()
    for n, segments in enumerate([{"vip"}, {"vip", "away"}, {"vip"}, set()], 1):
        segment = "vip" if n in (1, 4) else "away"
        assert len(fold.change(change("ann", 5, n, segment, segments))) == 1
    for raw in (fold.dump(), None):  # the deletion comes first, or the first change of the new life
        again = Fold.restored(raw) if raw else fold
        if raw:
            assert again.forget("ann", (5, 4)) == []
            again = Fold.restored(again.dump())
            assert again.change(change("ann", 5, 2, "away", {"vip", "away"})) == []
            assert not again.is_ahead(Standing("ann", 5, 3, ["vip"]))
        assert len(again.change(change("ann", 6, 1, "away", {"away"}))) == 1
        if not raw:
            assert again.forget("ann", (5, 4)) == []
        assert (again.segments("ann"), again.place("ann")) == (("away",), (6, 1))
        assert again.counts.corrections == again.counts.missed == 0
    assert fold.change(change("ann", 5, 3, "away", {"vip"})) == []


def test_exits_that_did_not_come_before_a_user_was_removed_are_told():
    fold = Fold()
    fold.load(Standing("ann", 5, 2, ["away", "vip"]))
    (news,) = fold.forget("ann", (5, 4))
    assert (news.exited, news.missed, news.reason) == (("away", "vip"), 2, "gone")
    fold.load(Standing("bob", 6, 1, ["vip"]))
    fold.unload("bob", (5, 9))
    assert fold.segments("bob") == ("vip",)
    fold.unload("bob", None)
    assert (len(fold), fold.segments("bob")) == (0, ())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x90",
        b"\x94\x02\x90\x90\x80",
        b"\x94\x01\x90\x91\x94\xa1a\1\1\1\x80",
        b"\x94\x01\x91\x91\xa1\xff\x90\x80",
    ],
)
def test_a_state_that_is_none_is_refused_in_words(raw):
    with pytest.raises(NotAfterglow, match="begin without it"):
        Fold.restored(raw)
