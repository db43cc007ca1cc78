"""A dead letter is on the broker, whole, before anything moves on."""

import json

import pytest

from events.batch import DeadLetter
from operators.dead_letters import DeadLetterError, DeadLetterFile, DeadLetterWriter
from tests.operators.logs import NOWHERE, consume


def letter(i, reason="range", key=b"user", payload=b'{"amount": -1}'):
    """The letter of offset ``i``."""
    return DeadLetter(
        payload, key, reason, "$.amount", "must be ≥ 0, got -1", "events", 3, i, 1_000
    )


@pytest.mark.servers
def test_letters_are_there_when_write_returns(broker):
    writer = DeadLetterWriter({"bootstrap.servers": broker}, "dead")
    writer.write([letter(i) for i in range(500)])
    writer.write([letter(500, key=None, payload=b"\xff\x00")])
    messages = consume(broker, "dead", 501)
    by_offset = {int(dict(m.headers())["offset"]): m for m in messages}
    assert len(messages) == len(by_offset) == 501
    assert (by_offset[7].key(), by_offset[7].value()) == (b"user", b'{"amount": -1}')
    assert dict(by_offset[7].headers()) == {
        "reason": b"range",
        "path": b"$.amount",
        "detail": "must be ≥ 0, got -1".encode(),
        "topic": b"events",
        "partition": b"3",
        "offset": b"7",
        "at": b"1000",
    }
    assert (by_offset[500].key(), by_offset[500].value()) == (None, b"\xff\x00")


def test_letters_that_do_not_arrive_in_time_are_said():
    writer = DeadLetterWriter(NOWHERE, "dead", timeout_s=0.2)
    with pytest.raises(DeadLetterError, match=r"2 dead letters .* to 'dead' .*: 2 are not ack"):
        writer.write([letter(1), letter(2)])


def test_letters_that_fail_are_said():
    writer = DeadLetterWriter({**NOWHERE, "message.timeout.ms": 50}, "dead")
    with pytest.raises(DeadLetterError, match=r"1 dead letters .*: .*timed out.*Nothing is lost"):
        writer.write([letter(1)])


@pytest.mark.servers
def test_a_letter_as_large_as_a_message_may_be_does_not_stop_the_engine(broker):
    """Java's producers send up to 1,048,576 bytes, librdkafka's by default fewer."""
    payload = b'{"event_id": "' + b"x" * 1_040_000 + b'"}'
    DeadLetterWriter({"bootstrap.servers": broker}, "large").write([letter(9, payload=payload)])
    (message,) = consume(broker, "large", 1)
    assert message.value() == payload


@pytest.mark.servers
def test_a_letter_that_is_too_large_for_the_topic_is_cut_and_says_so(broker):
    config = {"bootstrap.servers": broker, "message.max.bytes": 100_000}
    writer = DeadLetterWriter(config, "cut")
    writer.write([letter(1), letter(2, key=bytes(9_000), payload=b"y" * 200_000), letter(3)])
    found = {int(dict(m.headers())["offset"]): m for m in consume(broker, "cut", 3)}
    assert found.keys() == {1, 2, 3}
    assert dict(found[2].headers())["cut"] == b"200000"
    assert (found[2].value(), found[2].key()) == (b"y" * 4096, bytes(4096))
    assert "cut" not in dict(found[1].headers())


def test_a_file_counts_and_keeps(tmp_path):
    path = tmp_path / "dead.jsonl"
    file = DeadLetterFile(path)
    assert path.read_bytes() == b""
    file.write([])
    file.write([letter(1), letter(2, "json", payload=b"\xff{")])
    file.write([letter(3)])
    assert file.reasons == {"range": 2, "json": 1}
    assert file.firsts == {"range": letter(1), "json": letter(2, "json", payload=b"\xff{")}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["offset"] for line in lines] == ["1", "2", "3"]
    assert lines[1]["payload"] == "\\xff{"
    assert lines[1]["reason"] == "json"


def test_without_a_file_letters_are_only_counted():
    file = DeadLetterFile()
    file.write([letter(1), letter(2)])
    assert file.reasons == {"range": 2}


def test_a_file_that_cannot_be_written_is_known_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        DeadLetterFile(tmp_path / "nowhere" / "dead.jsonl")
