"""``afterglow settings``: all that is in force, where it was set, and no secret."""

import tomllib

from dataflows.settings import DEFAULTS, leaves, load
from tests.cli.running import right

SECRETS = {"KAFKA_PASSWORD": "s3cret-1", "REDIS_URL": "redis://me:s3cret-2@host/0"}


def sources(text):
    """Where each value comes from, by its path."""
    found, section = {}, ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif " = " in line:
            found[f"{section}.{line.partition(' = ')[0]}"] = line.rpartition("  # ")[2]
    return found


def test_the_output_says_what_the_file_says():
    shown = dict(leaves(tomllib.loads(right("settings"))))
    for path, value in leaves(tomllib.loads(DEFAULTS.read_text())):
        assert shown[path] == value


def test_the_output_can_be_given_back(tmp_path):
    file = tmp_path / "shown.toml"
    sets = [
        "session.gap=1h30m",
        'segments.keen.enter=intent > 1 and session.device == "mobile"',
        'kafka.options."security.protocol"=SSL',
        "orders.keep=2d",
    ]
    file.write_text(right("settings", *(part for text in sets for part in ("--set", text))))
    again = load(file, env={})
    assert again == load(None, sets, env={})
    assert again.session.gap == 90 * 60_000


def test_every_value_has_its_source(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[rfm]\nbasis = "window"\n[segments.vip]\nenter = "rfm.m == 5"\n')
    text = right(
        *("settings", "--config", file, "--set", "session.gap=1h"),
        *("--set", "rfm.cuts={recency_days=[1,2,3,4],frequency=[1,2,3,4],monetary=[1,2,3,4]}"),
        env={"KAFKA_BOOTSTRAP": "b:1"},
    )
    found = sources(text)
    assert {path: source for path, source in found.items() if source != "default"} == {
        "kafka.bootstrap": "KAFKA_BOOTSTRAP",
        "rfm.basis": str(file),
        "rfm.cuts.recency_days": "--set",
        "rfm.cuts.frequency": "--set",
        "rfm.cuts.monetary": "--set",
        "session.gap": "--set",
        "segments.vip.enter": str(file),
    }
    assert found["segments.vip.version"] == "default"
    assert "segments.vip.exit" not in found


def test_secrets_are_stars():
    options = {
        "sasl.password": "s3cret-3",
        "ssl.key.pem": "s3cret-4",
        "sasl.oauthbearer.client.secret": "s3cret-5",
        "ssl.ca.location": "/etc/ca.pem",
    }
    sets = [part for k, v in options.items() for part in ("--set", f'kafka.options."{k}"={v}')]
    text = right("settings", *sets, env=SECRETS)
    assert "s3cret" not in text
    assert text.count('"********"') == 5
    assert '"/etc/ca.pem"' in text
    assert sources(text)["redis.url"] == "REDIS_URL"
