"""The whole way over TLS: events to a real Kafka, profiles to a real Redis, looked up again."""

import json
import subprocess

import pytest

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore, free_port
from dataflows.local_kafka import LocalKafka
from dataflows.settings import load
from tests.brokers import REDIS, needs_kafka, needs_redis
from tests.cli.running import afterglow, right, until, wrong

pytestmark = [pytest.mark.servers, pytest.mark.kafka, pytest.mark.redis, needs_kafka, needs_redis]

EVENT = '{"event_id":"1","user_id":"ann","type":"purchase","ts":1790000000000,"amount":5}\n'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for loopback that signs itself, and its key."""
    home = tmp_path_factory.mktemp("tls")
    cert, key = home / "cert.pem", home / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    (home / "both.pem").write_text(key.read_text() + cert.read_text())
    return home


@pytest.fixture(scope="module")
def secured(certificate):
    """A Kafka and a Redis that speak TLS: the environment and the settings that lead there."""
    cert, port = certificate / "cert.pem", free_port()
    options = (
        *("--tls-port", str(port), "--tls-cert-file", str(cert)),
        *("--tls-key-file", str(certificate / "key.pem"), "--tls-ca-cert-file", str(cert)),
        *("--tls-auth-clients", "no"),
    )
    kafka = LocalKafka(certificate=certificate / "both.pem")
    with kafka, EmbeddedStore(options=options, binary=REDIS):
        names = load(env={}).kafka
        kafka.create(names.events, names.dead, names.changes)
        env = {
            "KAFKA_BOOTSTRAP": kafka.bootstrap,
            "REDIS_URL": f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}",
        }
        sets = [f'kafka.options."{name}"={value}' for name, value in kafka.client().items()]
        yield env, [part for text in sets for part in ("--set", text)]


def test_an_event_becomes_a_profile_over_tls(secured, tmp_path):
    env, sets = secured
    engine = Engine(["--set", "metrics.address=", *sets], env, tmp_path / "engine.log")
    engine.start()
    file = tmp_path / "events.jsonl"
    file.write_text(EVENT)
    try:
        assert "1 published" in right("publish", file, *sets, env=env)
        until(lambda: afterglow("profile", "ann", *sets, env=env).code == 0, 60)
        profile = json.loads(right("profile", "ann", *sets, env=env))
        assert profile["lifetime"]["spend"] == 500
        assert engine.stop() == 0, engine.log.read_text()
    finally:
        engine.kill()


def test_a_certificate_that_nobody_trusts_is_said(secured):
    env, _ = secured
    url = env["REDIS_URL"].partition("?")[0]
    (line,) = wrong("profile", "ann", env={**env, "REDIS_URL": url})
    assert "certificate" in line.lower()
