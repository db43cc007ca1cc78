"""Commands against a running engine: a file goes in, profiles and changes come out."""

import gzip
import json
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer

from tests.cli.running import CLEAN, ROOT, afterglow, right, until, wrong
from tests.operators.logs import consume

pytestmark = pytest.mark.servers
ROWS = """\
event_id,who,event_type,ts,item_id,amount,basket
{0}-1,{0},view,{1},shoes,,
{0}-2,{0},cart,{1},shoes,,
{0}-3,{0},cart,{1},socks,,
{0}-4,{0},cart,{1},laces,,
{0}-5,{0},purchase,{1},hat,19.90,b1
{0}-6,{0},purchase,{1},scarf,5.05,b1
"""
MAPS = [
    *("--map", "user_id=who", "--map", "type=event_type", "--map", "order_id=basket"),
    *("--type", "view=product_view", "--type", "cart=add_to_cart"),
]


@pytest.fixture(scope="module")
def user(live, tmp_path_factory):
    """Somebody whose events were published from a file."""
    file = tmp_path_factory.mktemp("publish") / "events.csv.gz"
    now_s = int(time.time())  # others may have brought this engine to the present already
    file.write_bytes(gzip.compress(ROWS.format("ann", now_s * 1_000).encode()))
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
    assert right("publish", file, *MAPS, env=live) == (
        f"6 published to events, 0 failed\nevents from {now} to {now} UTC\n"
    )
    until(lambda: afterglow("profile", "ann", env=live).code == 0)
    return "ann"


def test_a_profile_is_shown(live, user):
    profile = json.loads(right("profile", user, env=live))
    assert profile["user_id"] == user
    lifetime = {"events": 6, "orders": 1, "spend": 2495, "refunds": 0}
    assert profile["lifetime"] == lifetime


def test_all_profiles_are_exported_to_a_file_or_the_output(live, user, tmp_path):
    out = tmp_path / "profiles.jsonl"
    assert "profiles written to" in right("export", "--out", out, env=live)
    exported = {json.loads(line)["user_id"]: line for line in out.read_text().splitlines()}
    assert user in exported
    printed = {json.loads(line)["user_id"] for line in right("export", env=live).splitlines()}
    assert printed >= set(exported)


def test_a_membership_is_explained(live, user):
    assert "rfm" in right("explain", user, "vip", env=live)
    (line,) = wrong("explain", user, "vipp", env=live)
    assert line == "afterglow: there is no segment 'vipp'; did you mean 'vip'?"


def test_an_offer_is_explained(live, user):
    assert "returned_at" in right("explain", user, "offers.welcome_back", env=live)
    (line,) = wrong("explain", user, "offers.welcome", env=live)
    start = "afterglow: there is no offer 'offers.welcome'; did you mean 'offers.welcome_back'?"
    assert line == start


@pytest.fixture(scope="module")
def records(live, user):
    """The user's changes, as they stand on the topic."""
    options = ("--json", "--beginning", "--seconds", "2")
    found = [json.loads(line) for line in right("changes", *options, env=live).splitlines()]
    return [record for record in found if record["user_id"] == user]


def test_changes_are_followed_as_records(records):
    # A change may stand there twice, with one id: consumers must bear that after a crash anyhow.
    counts = list({record["id"]: record["n"] for record in records}.values())
    assert counts == list(range(1, len(counts) + 1))
    assert counts


def test_a_change_is_published_once(records):
    ids = [record["id"] for record in records]
    assert len(ids) == len(set(ids))


def test_changes_are_followed_as_lines(live, user, records):
    lines = right("changes", "--beginning", "--seconds", "2", env=live).splitlines()
    segment, kind = records[0]["segment"], records[0]["cause"]["kind"]
    assert any(f"  {user}  → {segment}  {kind}" in line for line in lines)


def test_a_stranger_has_no_profile(live):
    (line,) = wrong("profile", "nobody", env=live)
    assert line.startswith("afterglow: there is no profile of 'nobody' under 'ag': no event")
    (line,) = wrong("explain", "nobody", "vip", env=live)
    assert line.startswith("afterglow: nothing is known of 'nobody' under 'ag': no event")


def test_a_record_that_is_no_change_is_said(live):
    topic = f"no-changes-{time.time_ns()}"
    producer = Producer({"bootstrap.servers": live["KAFKA_BOOTSTRAP"]})
    producer.produce(topic, b'{"event_id": "1"}')
    assert producer.flush(10) == 0
    for form in ((), ("--json",)):
        done = afterglow(
            *("changes", "--beginning", "--seconds", "5", *form, "--set", f"kafka.changes={topic}"),
            env=live,
        )
        assert done.code == 2
        assert f"the record at {topic}/" in done.err
        assert "is no change" in done.err
        assert "check kafka.changes" in done.err


def test_a_topic_that_is_not_there_is_said(live):
    options = ("--seconds", "1", "--set", "kafka.changes=not-there")
    done = afterglow("changes", *options, env=live)
    assert (done.code, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first.startswith("the topic 'not-there' is not there yet: an engine makes it when it")
    assert second == "the topic 'not-there' has not come in 1 s"


CHANGE = (
    b'{"id":"1-07-3-0","user_id":"ann","segment":"vip","action":"entered","ts":0,"decided_at":0,'
    b'"version":1,"epoch":1,"n":1,"segments":["vip"],"cause":{"kind":"event"}}'
)


def test_a_topic_is_waited_for_and_followed_from_its_first_change_on(one_broker):
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "changes", "--json", "--set", "kafka.changes=to-come"],
        cwd=ROOT,
        env={**CLEAN, "KAFKA_BOOTSTRAP": one_broker.bootstrap},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert b"not there yet" in process.stderr.readline()
            one_broker.create("to-come")
            producer = Producer({"bootstrap.servers": one_broker.bootstrap})
            producer.produce("to-come", CHANGE, "ann")
            assert producer.flush(10) == 0
            assert process.stdout.readline().strip() == CHANGE
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30) == (b"", b"")
        finally:
            process.kill()
    assert process.returncode == 130


def test_publishing_may_be_slowed_and_go_elsewhere(live, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text('{"user_id": "ann"}\nnot json\n' * 5)
    start_s = time.monotonic()
    said = right("publish", file, "--topic", "elsewhere", "--rate", "20", env=live)
    assert said == "10 published to elsewhere, 0 failed\n"
    assert time.monotonic() - start_s >= 10 / 20


def test_a_message_that_cannot_be_sent_is_counted_and_the_rest_goes_on(live, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text('{"user_id": "ann"}\n{"a": "' + "x" * 2_000_000 + '"}\n{"user_id": "bob"}\n')
    done = afterglow("publish", file, "--topic", "elsewhere", env=live)
    assert (done.code, done.out) == (1, "2 published to elsewhere, 1 failed\n")
    assert "the first failure: " in done.err
    assert "size too large" in done.err.lower()


def test_types_that_never_came_are_said_when_all_is_published(live, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text('{"user_id": "ann", "type": "view", "ts": 1790000000}\n')
    types = ("--type", "view=product_view", "--type", "veiw=product_view")
    done = afterglow("publish", file, "--topic", "elsewhere", *types, env=live)
    assert done.code == 0
    seconds, unused = done.err.splitlines()
    assert seconds.startswith("warning: ts must be epoch milliseconds, but seconds seem to have")
    assert unused.startswith("warning: --type veiw=product_view renamed nothing")


def test_a_file_without_a_message_fails(live, tmp_path):
    (file := tmp_path / "events.csv").write_text("event_id,user_id,type,ts\n")
    done = afterglow("publish", file, "--topic", "elsewhere", env=live)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"afterglow: {file} holds no message, so there is nothing to publish\n"


def test_a_quote_that_is_not_closed_is_said_when_all_is_published(live, tmp_path):
    (file := tmp_path / "events.csv").write_text('event_id,user_id,type,ts\n1,ann,"cl\n2,"bo,x,5\n')
    done = afterglow("publish", file, "--topic", "elsewhere", env=live)
    assert done.code == 0
    assert f"warning: {file}: lines 2 to 3 are one row" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_publishing_says_how_far_it_came(live, one_broker, number, tmp_path):
    one_broker.create(topic := f"cut-short-{number}")
    event = '{"event_id": "%d", "user_id": "ann", "ts": 1790000000000}\n'
    (file := tmp_path / "events.jsonl").write_text("".join(event % n for n in range(1_000)))
    command = ("publish", str(file), "--rate", "50", "--topic", topic)
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command],
        cwd=ROOT,
        env={**CLEAN, "KAFKA_BOOTSTRAP": one_broker.bootstrap},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert consume(one_broker.bootstrap, topic, 1)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    published, _ = out.splitlines()
    count = len(consume(one_broker.bootstrap, topic, 1_000, wait_s=2))
    assert 0 < count < 1_000
    assert published == f"{count} published to {topic}, 0 failed"
    (line,) = err.splitlines()
    assert f"{count} messages are acknowledged, the first {count} of the file" in line
    assert "at most 10 min of event time behind the newest (dedup.window)" in line


def test_a_publishing_that_breaks_off_says_how_far_it_came(live, tmp_path):
    rows = "event_id,user_id,type,ts\n" + "".join(f"e{n},u,click,{n}\n" for n in range(9_000))
    file = tmp_path / "events.csv.gz"
    file.write_bytes(gzip.compress(rows.encode(), 1)[:-5_000])
    done = afterglow("publish", file, "--topic", "elsewhere", env=live)
    assert done.code == 2
    count = done.out.partition(" published to ")[0]
    *_, partial, why = done.err.splitlines()
    assert f"{count} messages are acknowledged" in partial
    assert "cannot be read to its end" in why


def test_an_engine_whose_topic_is_missing_says_so_without_a_panic(live):
    sets = ("--set", "kafka.events=evnts", "--set", "metrics.address=")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", *sets],
        cwd=ROOT,
        env={**CLEAN, **live},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the topic 'evnts' cannot be read" in done.stderr
    assert "panicked" not in done.stderr
