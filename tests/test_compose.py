"""What starts the system elsewhere: compose, the image, the runner, and what is pinned."""

import os
import re
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from cli.run import parse_place
from dataflows.settings import load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_engine_is_given_addresses_that_others_listen_on(services):
    environment = services["engine"]["environment"]
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"//{environment['KAFKA_BOOTSTRAP']}" in listeners
    assert environment["REDIS_URL"].startswith("redis://redis:6379")
    settings = load(sets=services["engine"]["command"][1::2], env=environment)
    assert settings.metrics.address.startswith("0.0.0.0:")


def test_all_topics_are_made(services):
    made = re.findall(r"^topic (\S+) \d+$", services["topics"]["command"][-1], re.MULTILINE)
    kafka = load(env={}).kafka
    assert set(made) == {kafka.events, kafka.dead, kafka.changes}


def test_the_store_keeps_what_it_was_given(services):
    assert "--appendonly yes" in services["redis"]["command"]
    assert "noeviction" in services["redis"]["command"]


def test_services_wait_for_what_they_need_and_ports_stay_on_this_machine(services):
    for name, service in services.items():
        assert "healthcheck" in service or name == "topics", name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    for needed in services["engine"]["depends_on"]:
        assert needed in services


def test_the_stateful_set_names_every_worker():
    manifests = yaml.safe_load_all((ROOT / "deploy/kubernetes/engine.yaml").read_text())
    found = {manifest["kind"]: manifest for manifest in manifests}
    pods = found["StatefulSet"]["spec"]
    (engine,) = pods["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in engine["env"]}
    assert int(given["WORKERS"]) == pods["replicas"]
    assert pods["serviceName"] == found["Service"]["metadata"]["name"]
    script = engine["args"][0].replace("exec deploy/engine", "echo")
    told = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"WORKERS": given["WORKERS"], "HOSTNAME": "afterglow-engine-1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    place = parse_place(int(told[3]), told[1], -1)
    assert place.worker == 1
    assert place.addresses == tuple(
        f"afterglow-engine-{i}.afterglow-engine:7700" for i in range(pods["replicas"])
    )


def test_the_image_is_built_from_files_that_are_there():
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (made,) = [line for line in lines if line.startswith("RUN mkdir")]
    folders = [packages["package-dir"].get(name, name) for name in packages["packages"]]
    assert made.removeprefix("RUN mkdir ").rstrip(" \\").split() == folders
    assert "USER afterglow" in lines
    (entry,) = [line for line in lines if line.startswith("ENTRYPOINT")]
    assert os.access(ROOT / entry.split('"')[1], os.X_OK)


def test_constraints_are_versions_and_name_every_dependency():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line).groups()
        pinned[canonical(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        name, exact, version = re.match(r"([A-Za-z0-9._-]+)(==)?(.*)", needed).groups()
        assert canonical(name) in pinned
        assert not exact or pinned[canonical(name)] == version


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def runner(tmp_path):
    """Start ``deploy/engine`` with a shell script as the engine."""
    engine = tmp_path / "afterglow"

    def start(script):
        engine.write_text(f"#!/bin/sh\n{script}\n")
        engine.chmod(0o755)
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [ROOT / "deploy/engine", "--set", "a.b=c d"], env=env, stdout=subprocess.PIPE, text=True
        )

    return start


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (1, 1), (2, 2), (75, 0), (137, 137)])
def test_only_an_engine_that_was_replaced_is_not_started_again(runner, code, seen):
    with runner(f"exit {code}") as process:
        assert process.wait(10) == seen


def test_the_engine_gets_its_arguments(runner):
    with runner('printf "%s\\n" "$@"') as process:
        assert process.communicate(timeout=10)[0].splitlines() == ["run", "--set", "a.b=c d"]


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (7, 7), (75, 0)])
def test_a_signal_lets_the_engine_drain(runner, code, seen):
    live_5_s = "n=0; while [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done; echo not told"
    drain = f"trap 'sleep 0.1; echo drained; exit {code}' TERM; echo up; {live_5_s}"
    with runner(drain) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "drained\n"
        assert process.returncode == seen
