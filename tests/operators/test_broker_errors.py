"""What is said where a broker does not answer: what stands between, and what to do."""

import socket
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from operators.broker_errors import RIGHTS, heard, silent, unanswered

TIMED_OUT = KafkaError(KafkaError._TRANSPORT, "Failed to get metadata")


def said(address, **options):
    return str(silent(KafkaException(TIMED_OUT), {"bootstrap.servers": address, **options}))


@pytest.fixture
def hung_up():
    """The address of a server that takes connections and ends them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_where_nobody_listens():
    told = said("127.0.0.1:1")
    assert told.startswith("the broker does not answer: 127.0.0.1:1/bootstrap: Connect to ")
    assert "Connection refused" in told
    assert told.endswith("Check KAFKA_BOOTSTRAP and that one runs at 127.0.0.1:1")


def test_a_name_that_nobody_knows():
    assert "Failed to resolve 'nobody.invalid:9092'" in said("nobody.invalid:9092")


def test_a_server_that_wants_something_else(hung_up):
    assert said(hung_up).startswith(
        f"the server at {hung_up} takes connections and ends them. It may want TLS or a login: "
    )


def test_a_secret_in_an_address_stays_unsaid():
    told = said("ann:secret@127.0.0.1:1")
    assert told == (
        "the broker does not answer: Failed to get metadata. Check KAFKA_BOOTSTRAP and that one "
        "runs at 127.0.0.1:1"
    )


@pytest.mark.parametrize(
    ("code", "what", "advice"),
    [
        (KafkaError._AUTHENTICATION, "the broker at b:1 does not let this user in", "PASSWORD"),
        (KafkaError._SSL, "there is no secure connection to the broker at b:1", "with ssl"),
    ],
)
def test_the_first_reason_of_a_kind_is_said(code, what, advice):
    lost = KafkaError(KafkaError._TRANSPORT, "lost")
    told = unanswered(TIMED_OUT, "b:1", [lost, KafkaError(code, "one"), KafkaError(code, "two")])
    assert told.startswith(f"{what}: one. ")
    assert advice in told


def test_what_is_forbidden_is_no_silence():
    refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed")
    assert unanswered(refusal, "b:1") == (
        f"the broker at b:1 refuses: Topic authorization failed. {RIGHTS}"
    )


def test_nothing_is_heard_of_a_broker_that_answers(broker):
    assert heard({"bootstrap.servers": broker}) == []
