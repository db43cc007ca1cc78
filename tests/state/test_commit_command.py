"""The command of a shard's commit, read back by a parser of the protocol, beside a plain one."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.bulk import Bulk
from state.commit import ShardCommit, TableWrite
from state.commit_command import CommitCommands

SHA = "0" * 40
COMMANDS = CommitCommands(lambda kind, shard, rest: f"t:{kind}:{{{shard:02d}}}:{rest}", SHA)
"""One for all examples, so that what it keeps of one must not show in the next."""

raw = st.binary(max_size=40)
names = st.text("abc:", min_size=1, max_size=4)
some = st.lists(raw, max_size=4)
pairs = st.lists(st.tuples(raw, raw), max_size=4)
large = st.integers(0, 5_000)
commits = st.fixed_dictionaries(
    {
        "shard": st.integers(0, 63),
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


def bulk(held):
    return Bulk.of(*(Texts.of_bytes(list(side)) for side in zip(*held, strict=True)))


def commit_of(parts):
    """The commit; of what is empty nothing is given."""
    given_ = {k: v for k, v in parts.items() if k not in ("users", "listed", "tables")}
    out = ShardCommit(**given_)
    if parts["users"]:
        out.users = Texts.of_bytes([user for user, _ in parts["users"]])
        out.profiles = out.states = bulk(parts["users"])
    if parts["listed"]:
        out.listed = Texts.of_bytes([user for user, _ in parts["listed"]])
        out.candidates = bulk(parts["listed"])
    for name, (changed, removed) in parts["tables"].items():
        table = out.tables[name] = TableWrite()
        if changed:
            table.changed = bulk(changed)
        if removed:
            table.removed = Bulk.of(Texts.of_bytes(removed))
    return out


def plainly(parts, fence, entries):
    """All arguments, as ``commit.lua`` describes them."""
    key = lambda kind, rest="": f"t:{kind}:{{{parts['shard']:02d}}}:{rest}"  # noqa: E731
    work = []
    if parts["gone"]:
        work += [("HDEL", key(kind), parts["gone"]) for kind in ("profile", "state", "candidates")]
    if parts["users"]:
        work += [("HSET", key(kind), flat(parts["users"])) for kind in ("profile", "state")]
    if parts["listed"]:
        work.append(("HSET", key("candidates"), flat(parts["listed"])))
    for name, (changed, removed) in parts["tables"].items():
        work += [("HDEL", key(name), removed)] if removed else []
        work += [("HSET", key(name), flat(changed))] if changed else []
    work += [("UNLINK", key("members", name), []) for name in parts["former"]]
    work += [("SREM", key("members", name), who) for name, who in parts["left"].items()]
    work += [("SADD", key("members", name), who) for name, who in parts["joined"].items()]
    work += [("APPEND", key("dedup", str(b)), [block]) for b, block in parts["dedup"].items()]
    if parts["examples"]:
        example = [f"{parts['seq']}-*", "examples", parts["examples"]]
        work.append(("XADD", key("examples"), example))
    work += [("UNLINK", key("dedup", str(bucket)), []) for bucket in parts["dedup_dropped"]]
    keys = [key("commit"), key("outbox"), *(name for _, name, _ in work)]
    record = flat(parts["record"].items())
    head = [fence, parts["expected"], parts["seq"], 2 * len(entries), *flat(entries)]
    operations = [
        each
        for number, (command, _, arguments) in enumerate(work, 3)
        for each in (command, number, len(arguments), *arguments)
    ]
    every = ["EVALSHA", SHA, len(keys), *keys, *head, len(record), *record, *operations]
    return [each if isinstance(each, bytes) else str(each).encode() for each in every]


@given(commits, raw, st.lists(st.tuples(large, raw), max_size=3))
def test_a_command_says_what_a_plain_one_says(parts, fence, entries):
    reader = hiredis.Reader()
    reader.feed(b"".join(COMMANDS.of(commit_of(parts), fence, entries)))
    assert reader.gets() == plainly(parts, fence, entries)
    assert reader.gets() is False  # and nothing behind it


def test_a_record_that_was_written_to_is_written_anew():
    commit = ShardCommit(shard=3, seq=2, expected=1, record={"clock": b"1"})
    COMMANDS.of(commit, b"f", [])
    commit.record["clock"] = b"22"
    assert b"$5\r\nclock\r\n$2\r\n22\r\n" in b"".join(COMMANDS.of(commit, b"f", []))
