"""What starts the system elsewhere: compose, Kubernetes, the image, the runner, what is pinned."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from cli.run import parse_place
from dataflows.settings import _ENVIRONMENT as ENVIRONMENT
from dataflows.settings import load

ROOT = Path(__file__).parents[1]
IMAGE = (ROOT / "deploy/Dockerfile").read_text()


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if service["image"].startswith("afterglow:")]
READ = {*ENVIRONMENT, "AFTERGLOW_CONFIG", "AFTERGLOW_TOKENS"}
"""What the settings read from the environment."""


@pytest.fixture(scope="module")
def services():
    return SERVICES


def filled(text):
    """A text of the compose file, with the defaults of what it takes from the environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_engine_is_given_addresses_that_others_listen_on(services):
    environment = {name: filled(text) for name, text in services["engine"]["environment"].items()}
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"//{environment['KAFKA_BOOTSTRAP']}" in listeners
    sets = [text for text in services["engine"]["command"] if "=" in text]
    settings = load(sets=sets, env=environment)
    assert settings.metrics.address.startswith("0.0.0.0:")
    assert settings.logs.format == "json"
    asked = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    job, api = asked["scrape_configs"]
    assert api["static_configs"] == [{"targets": ["serving:8080"]}]
    workers = int(services["engine"]["command"][1])
    port = int(settings.metrics.address.rpartition(":")[2])
    (targets,) = [found["targets"] for found in job["static_configs"]]
    assert targets == [f"engine:{port + i}" for i in range(workers)]


@pytest.mark.parametrize("name", [name for name in OWN if "environment" in SERVICES[name]])
def test_services_speak_to_the_store_as_a_user_it_knows(services, name):
    url = urlparse(filled(services[name]["environment"]["REDIS_URL"]))
    assert (url.scheme, url.hostname, url.port) == ("redis", "redis", 6379)
    passwords = services["redis"]["environment"]
    assert filled(passwords[f"{url.username.upper()}_PASSWORD"]) == url.password
    users = (ROOT / "deploy/redis/users.acl").read_text()
    assert f"user {url.username} on >@{url.username.upper()}_PASSWORD@ " in users
    assert set(services[name]["environment"]) <= READ
    tokens = filled(services["serving"]["environment"]["AFTERGLOW_TOKENS"])
    assert all(len(token.partition(":")[2]) >= 16 for token in tokens.split(","))


def test_all_topics_are_made(services):
    made = re.findall(r"^topic (\S+) \d+$", services["topics"]["command"][-1], re.MULTILINE)
    kafka = load(env={}).kafka
    assert set(made) == {kafka.events, kafka.dead, kafka.changes}


def test_the_store_keeps_what_it_was_given(services):
    assert services["redis"]["entrypoint"] == ["/afterglow/start"]
    assert "./deploy/redis:/afterglow:ro" in services["redis"]["volumes"]
    assert "redis:/data" in services["redis"]["volumes"]
    start = (ROOT / "deploy/redis/start").read_text()
    assert "--appendonly yes" in start
    assert "noeviction" in start


def test_services_wait_for_what_they_need_and_ports_stay_on_this_machine(services):
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            ends = how["condition"] == "service_completed_successfully"
            assert ends == ("restart" not in services[needed]), (name, needed)


def test_everything_that_goes_on_says_whether_it_is_well(services):
    """By a check of its own, or by that of the image; only what ends by itself has none."""
    for name, service in services.items():
        if name in OWN or name == "topics":
            continue
        check = service["healthcheck"]
        assert check["test"][0] in ("CMD", "CMD-SHELL"), name
        assert len(check["test"]) > 1, name
    (line,) = re.findall(r"^HEALTHCHECK.*(?:\n .*)*", IMAGE, re.MULTILINE)
    assert "127.0.0.1:9109/metrics" in line
    assert services["shop"]["healthcheck"] == {"disable": True}


def test_each_service_has_an_image_and_volumes_that_are_there(services):
    used = set()
    for name, service in services.items():
        assert re.fullmatch(r"[a-z/-]+:\S+", service["image"]), name
        assert not service["image"].endswith(":latest"), name
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            assert target.startswith("/"), name
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"], f"{name}: {source} must not be written"
            else:
                used.add(source)
    assert used == set(COMPOSE["volumes"])
    assert services["engine"]["build"]["dockerfile"] == "deploy/Dockerfile"


def test_what_is_taken_from_the_environment_has_a_default():
    text = (ROOT / "docker-compose.yml").read_text().replace("$$", "")
    assert set(re.findall(r"\$(?!\{\w+:-[^}]+\})", text)) == set()


@pytest.mark.parametrize("name", OWN)
def test_services_of_the_image_start_what_there_is(services, name):
    entry = services[name].get("entrypoint", ["deploy/engine"])
    arguments = services[name]["command"]
    if entry == ["deploy/engine"]:
        assert "--workers" in command_help("run")
    elif entry[:2] == ["python", "-m"]:
        done = subprocess.run(
            [sys.executable, *entry[1:], "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert set(arguments[::2]) <= set(re.findall(r"--[a-z]+", done.stdout))
    else:
        command = entry[1]
        if command not in command_help():
            pytest.skip(f"there is no command afterglow {command} yet")
        assert "--set" in command_help(command)
        load(sets=arguments[1::2], env={})


def command_help(*command):
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return done.stdout


MANIFESTS = [
    manifest
    for file in ("config", "engine", "serving")
    for manifest in yaml.safe_load_all((ROOT / f"deploy/kubernetes/{file}.yaml").read_text())
]
PODS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]
    for manifest in MANIFESTS
    if manifest["kind"] in ("StatefulSet", "Deployment")
}
VERSIONS = {
    "ConfigMap": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def test_manifests_are_of_kinds_that_there_are():
    names = [(found["kind"], found["metadata"]["name"]) for found in MANIFESTS]
    assert len(set(names)) == len(names)
    for manifest in MANIFESTS:
        assert manifest["apiVersion"] == VERSIONS[manifest["kind"]]
        assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "afterglow"
    assert {path.stem for path in (ROOT / "deploy/kubernetes").glob("*.yaml")} == {
        *("config", "engine", "serving")
    }


def test_services_and_budgets_find_their_pods():
    for manifest in MANIFESTS:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            wanted = spec["selector"]
        elif manifest["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"]["matchLabels"]
        elif manifest["kind"] == "ConfigMap":
            continue
        else:
            wanted = spec["selector"]["matchLabels"]
        found = [
            pod for pod in PODS.values() if wanted.items() <= pod["metadata"]["labels"].items()
        ]
        assert len(found) == 1, manifest["metadata"]["name"]
    budgets = [m["spec"] for m in MANIFESTS if m["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == len(PODS)
    for budget in budgets:
        assert ("maxUnavailable" in budget) != ("minAvailable" in budget)


@pytest.mark.parametrize("name", PODS)
def test_containers_may_do_little_and_say_how_they_are(name):
    pod = PODS[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"--uid {pod['securityContext']['runAsUser']} " in IMAGE
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {
        mount["mountPath"] for mount in container["volumeMounts"] if "readOnly" not in mount
    } == {"/tmp"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", PODS)
def test_pods_are_given_what_the_settings_read(name):
    (container,) = PODS[name]["spec"]["containers"]
    (config,) = [m for m in MANIFESTS if m["kind"] == "ConfigMap"]
    script = " ".join(container.get("args", []))
    for entry in container["env"]:
        assert entry["name"] in READ or f"${entry['name']}" in script, entry["name"]
        source = entry.get("valueFrom", {}).get("configMapKeyRef")
        if source is not None:
            assert source["name"] == config["metadata"]["name"]
            assert source["key"] in config["data"]
        assert "PASSWORD" not in entry.get("value", "")
    held, temporary = PODS[name]["spec"]["volumes"]
    assert temporary.keys() == {"name", "emptyDir"}
    for item in held["configMap"]["items"]:
        assert item["key"] in config["data"]


def test_the_settings_of_the_pods_are_settings(tmp_path):
    (config,) = [m for m in MANIFESTS if m["kind"] == "ConfigMap"]
    file = tmp_path / "afterglow.toml"
    file.write_text(config["data"]["afterglow.toml"])
    assert load(file, env={}).logs.format == "json"


def test_the_stateful_set_names_every_worker():
    found = {m["kind"]: m for m in MANIFESTS if m["metadata"]["name"] == "afterglow-engine"}
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
    place = parse_place(int(told[3]), told[1])
    assert place.worker == 1
    assert place.addresses == tuple(
        f"afterglow-engine-{i}.afterglow-engine:7700" for i in range(pods["replicas"])
    )


def test_the_image_is_built_from_files_that_are_there(tmp_path):
    """The program starts from nothing but what the image copies."""
    for line in re.findall(r"^COPY (?!--from)(.+)$", IMAGE, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            into = tmp_path / target / (Path(source).name if target.endswith("/") else "")
            into.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, into)
    (entry,) = re.findall(r'^ENTRYPOINT \["(.+)"\]$', IMAGE, re.MULTILINE)
    assert os.access(tmp_path / entry, os.X_OK)
    packages = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in packages["packages"]:
        place = packages.get("package-dir", {}).get(package, package.replace(".", "/"))
        assert (tmp_path / place / "__init__.py").exists(), package
    path = f"{tmp_path}:{tmp_path / 'serving'}"
    told = subprocess.run(
        [sys.executable, "-c", "import cli.main, state; print(state.__file__)"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith(str(tmp_path)), told.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "cli.main", "settings"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr


def test_the_image_runs_as_nobody_and_holds_no_secrets():
    stages = re.split(r"^FROM ", IMAGE, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    last = stages[-1]
    assert "\nUSER afterglow\n" in last
    assert last.index("USER afterglow") < last.index("ENTRYPOINT")
    assert "HEALTHCHECK" in last
    assert "pip" not in last
    assert not re.search(r"(?i)password|secret|token|redis://", IMAGE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "data"} <= set(ignored)
    for line in re.findall(r"^COPY (?!--from)(.+)$", IMAGE, re.MULTILINE):
        assert not set(line.split()) & {*ignored, ".", ".env"}


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
