"""The commands of a commit's shards, read back by a parser of the protocol, beside plain ones."""

import hiredis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.commit import NOTHING, Operation, ShardCommit, Writes
from state.commit_command import CommitCommands

SHA = "0" * 40
COMMANDS = CommitCommands(lambda kind, shard, rest: f"t:{kind}:{{{shard:02d}}}:{rest}", SHA)
"""One for all examples, so that what it keeps of one must not show in the next."""

raw = st.binary(max_size=40) | st.binary(min_size=95, max_size=120)
names = st.text("abc:", min_size=1, max_size=4)
some = st.lists(raw, max_size=4)
pairs = st.lists(st.tuples(raw, raw), max_size=4)
large = st.integers(0, 5_000)
parts_of_a_shard = st.fixed_dictionaries(
    {
        "seq": large,
        "expected": large,
        "record": st.dictionaries(names, raw, max_size=3),
        "gone": some,
        "users": pairs,
        "listed": pairs,
        "tables": st.dictionaries(names, st.tuples(pairs, some), max_size=3),
        "dedup": st.dictionaries(large, raw, max_size=3),
        "dedup_dropped": st.lists(large, max_size=3),
        "joined": st.dictionaries(names, some.filter(bool), max_size=3),
        "left": st.dictionaries(names, some.filter(bool), max_size=3),
        "former": st.lists(names, max_size=2),
        "examples": raw,
    }
)


def flat(held):
    return [each for pair in held for each in pair]


def operation(command, kind, shards, held, rest=""):
    """Of what each shard has, pairs or single arguments."""
    shard = np.repeat(np.array(shards, dtype=np.int64), [len(some) for some in held])
    every = [each for some in held for each in some]
    sides = zip(*every, strict=True) if every and isinstance(every[0], tuple) else [every]
    return Operation(command, kind, shard, *(Texts.of_bytes(side) for side in sides), rest=rest)


def writes_of(every):
    """The columns of all shards; what nobody has is left out."""
    tables = dict.fromkeys(name for parts in every for name in parts["tables"])
    buckets = dict.fromkeys(bucket for parts in every for bucket in parts["dedup"])
    none, shards = ([], []), [parts["shard"] for parts in every]
    found = [
        operation("HSET", "profile", shards, [parts["users"] for parts in every]),
        operation("HSET", "state", shards, [parts["users"] for parts in every]),
        operation("HSET", "candidates", shards, [parts["listed"] for parts in every]),
    ]
    for name in tables:
        held = [parts["tables"].get(name, none) for parts in every]
        found.append(operation("HDEL", name, shards, [removed for _, removed in held]))
        found.append(operation("HSET", name, shards, [changed for changed, _ in held]))
    for bucket in buckets:
        blocks = [[p["dedup"][bucket]] if bucket in p["dedup"] else [] for p in every]
        found.append(operation("APPEND", "dedup", shards, blocks, str(bucket)))
    return Writes([each for each in found if len(each.fields)]), tables, buckets


def commits_of(every):
    writes, *orders = writes_of(every)
    columns = ("users", "listed", "tables", "dedup")
    return [
        ShardCommit(
            **{name: part for name, part in parts.items() if name not in columns},
            writes=writes,
        )
        for parts in every
    ], orders


def plainly(parts, orders, fence, entries):
    """All arguments, as ``commit.lua`` describes them; keys have another order than operations."""

    def key(kind, rest=""):
        return f"t:{kind}:{{{parts['shard']:02d}}}:{rest}"

    tables, buckets = orders
    gone, work, own = [], [], []
    if parts["gone"]:
        gone = [("HDEL", key(kind), parts["gone"]) for kind in ("profile", "state", "candidates")]
    if parts["users"]:
        work += [("HSET", key(kind), flat(parts["users"])) for kind in ("profile", "state")]
    if parts["listed"]:
        work.append(("HSET", key("candidates"), flat(parts["listed"])))
    for name in tables:
        changed, removed = parts["tables"].get(name, ([], []))
        work += [("HDEL", key(name), removed)] if removed else []
        work += [("HSET", key(name), flat(changed))] if changed else []
    ids = parts["dedup"]
    work += [("APPEND", key("dedup", str(b)), [ids[b]]) for b in buckets if b in ids]
    own += [("UNLINK", key("members", name), []) for name in parts["former"]]
    own += [("SREM", key("members", name), who) for name, who in parts["left"].items()]
    own += [("SADD", key("members", name), who) for name, who in parts["joined"].items()]
    if parts["examples"]:
        example = [f"{parts['seq']}-*", "examples", parts["examples"]]
        own.append(("XADD", key("examples"), example))
    own += [("UNLINK", key("dedup", str(bucket)), []) for bucket in parts["dedup_dropped"]]
    named = [*work, *gone, *own]
    keys = [key("commit"), key("outbox"), *(name for _, name, _ in named)]
    record = flat(parts["record"].items())
    head = [fence, parts["expected"], parts["seq"], 2 * len(entries), *flat(entries)]
    operations = [
        each
        for command, number, arguments in [
            (command, number, arguments)
            for part, first in ((gone, len(work)), (work, 0), (own, len(work) + len(gone)))
            for number, (command, _, arguments) in enumerate(part, first + 3)
        ]
        for each in (command, number, len(arguments), *arguments)
    ]
    every = ["EVALSHA", SHA, len(keys), *keys, *head, len(record), *record, *operations]
    return [each if isinstance(each, bytes) else str(each).encode() for each in every]


@given(
    st.dictionaries(st.integers(0, 63), parts_of_a_shard, min_size=1, max_size=3),
    raw,
    st.lists(st.tuples(large, raw), max_size=3),
)
def test_commands_say_what_plain_ones_say(by_shard, fence, entries):
    every = [{"shard": shard, **by_shard[shard]} for shard in sorted(by_shard)]
    commits, orders = commits_of(every)
    stored = [entries[place:] for place in range(len(every))]
    written = COMMANDS.of(commits, [fence] * len(every), stored)
    for commit, parts, command, entries in zip(commits, every, written, stored, strict=True):
        reader = hiredis.Reader()
        reader.feed(bytes(command))
        assert reader.gets() == plainly(parts, orders, fence, entries)
        assert reader.gets() is False  # and nothing behind it
        assert commit.users.bytes_list() == [user for user, _ in parts["users"]]
        assert commit.listed.bytes_list() == [user for user, _ in parts["listed"]]


def test_a_record_that_was_written_to_is_written_anew():
    record = {"clock": b"1"}
    commit = ShardCommit(shard=3, seq=2, expected=1, record=record)
    COMMANDS.of([commit], [b"f"], [[]])
    record["clock"] = b"22"
    (command,) = COMMANDS.of([commit], [b"f"], [[]])
    assert b"$5\r\nclock\r\n$2\r\n22\r\n" in bytes(command)


def test_commits_of_several_columns_keep_their_order():
    one, two = (
        Writes([operation("HSET", "profile", [5], [[(name, name)]])]) for name in (b"a", b"b")
    )
    commits = [ShardCommit(5, 1, 0, writes=writes) for writes in (one, two, one, NOTHING)]
    together = COMMANDS.of(commits, [b"f"] * 4, [[]] * 4)
    alone = [COMMANDS.of([commit], [b"f"], [[]])[0] for commit in commits]
    assert list(map(bytes, together)) == list(map(bytes, alone))
    assert [b"$1\r\na\r\n" in bytes(command) for command in together] == [True, False, True, False]
