"""``afterglow serve`` as people run it: tokens, an explanation, a change, an end in good order."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.common import UserError
from cli.serve import parse_address, read_tokens
from dataflows.embedded import free_port
from dataflows.settings import SettingsError, load
from tests.cli.running import CLEAN, ROOT, afterglow, right, until, wrong

pytestmark = pytest.mark.servers
READ, BULK = "r" * 32, "b" * 32


@contextmanager
def served(env: Mapping[str, str], *sets: str) -> Iterator[int]:
    """The command as a process; its port. It must end with 0."""
    port = free_port()
    arguments = [f"serve.address=127.0.0.1:{port}", *sets]
    path = os.pathsep.join([str(ROOT / "serving"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve", *(x for a in arguments for x in ("--set", a))],
        env={**CLEAN, "PYTHONPATH": path, **env},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or answers(port), 60)
        yield port
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


def answers(port: int) -> bool:
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False


def ask(port: int, path: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def user(live: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Somebody whom a running engine knows."""
    name, file = "served", tmp_path_factory.mktemp("served") / "events.jsonl"
    event = {"event_id": "s-1", "user_id": name, "type": "add_to_cart", "item_id": "cup"}
    file.write_text(json.dumps({**event, "ts": int(time.time() * 1000)}) + "\n")
    right("publish", file, env=live)
    until(lambda: afterglow("profile", name, env=live).code == 0)
    return name


@pytest.mark.slow
def test_a_server_beside_a_running_engine(live: Mapping[str, str], user: str) -> None:
    env = {**live, "AFTERGLOW_TOKENS": f"read:{READ},bulk:{BULK}"}
    with served(env) as port:
        until(lambda: ask(port, "/ready")[0] == 200)
        assert ask(port, f"/v1/profiles/{user}")[0] == 401
        status, body = ask(port, f"/v1/profiles/{user}", READ)
        assert (status, json.loads(body)["lifetime"]["events"]) == (200, 1)
        asked = f"/v1/explanations?user_id={user}&kind=segment&name=cart_abandoned"
        status, body = ask(port, asked, READ)
        assert (status, "cart.items" in json.loads(body)["text"]) == (200, True)
        status, body = ask(port, asked.replace("cart_abandoned", "cart_abandonned"), READ)
        assert (status, "did you mean 'cart_abandoned'" in json.loads(body)["detail"]) == (
            404,
            True,
        )
        assert ask(port, "/v1/changes", READ)[0] == 403
        status, body = ask(port, "/openapi.json")
        assert (status, "/v1/changes" in json.loads(body)["paths"]) == (200, True)


def test_no_store_named() -> None:
    (line,) = wrong("serve")
    assert "REDIS_URL must name the store" in line


def test_other_machines_need_tokens() -> None:
    env = {"REDIS_URL": "redis://127.0.0.1:1"}
    (line,) = wrong("serve", "--set", "serve.address=0.0.0.0:8080", env=env)
    assert "set AFTERGLOW_TOKENS=read:<token>" in line


def test_a_port_that_is_taken_is_all_that_is_said() -> None:
    env = {"REDIS_URL": "redis://127.0.0.1:1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (line,) = wrong("serve", "--set", f"serve.address={address}", env=env)
    assert line.startswith(f"afterglow: {address} cannot be served: ")
    assert line.endswith("Set serve.address to a free host:port")


def test_tokens_come_from_the_environment_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# edges\nread:{READ}\n\nbulk: {BULK}  # the newsletter\n")
    env = {"AFTERGLOW_TOKENS": "admin:" + "a" * 20, "AFTERGLOW_TOKENS_FILE": str(file)}
    chosen = load(env=env).serve
    assert read_tokens(chosen) == {READ: "read", BULK: "bulk", "a" * 20: "admin"}
    assert "a" * 20 not in repr(chosen)


@pytest.mark.parametrize(
    ("tokens", "needed"),
    [
        ("root:" + READ, "a role of read, bulk, admin"),
        (READ, "no colon"),
        ("read:short", "at least 16"),
        ("read:" + "ü" * 20, "printable ASCII"),
        (f"read:{READ},bulk:{READ}", "twice"),
    ],
)
def test_tokens_that_are_none(tokens: str, needed: str) -> None:
    with pytest.raises(UserError, match=needed) as error:
        read_tokens(load(env={"AFTERGLOW_TOKENS": tokens}).serve)
    assert READ not in str(error.value)


def test_a_file_of_tokens_that_is_not_there() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_tokens(load(sets=["serve.tokens_file=/nowhere"], env={}).serve)


def test_a_file_of_tokens_without_one_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# none yet\n")
    env = {"REDIS_URL": "redis://127.0.0.1:1", "AFTERGLOW_TOKENS_FILE": str(file)}
    (line,) = wrong("serve", env=env)
    assert f"serve.tokens_file {file}: must hold a token" in line


def test_tokens_in_a_settings_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "afterglow.toml"
    file.write_text(f'[serve]\ntokens = "read:{READ}"\n')
    with pytest.raises(SettingsError, match="set AFTERGLOW_TOKENS") as error:
        load(file, env={})
    assert READ not in str(error.value)


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(UserError, match="up to 65535"):
        parse_address("127.0.0.1:70000")
