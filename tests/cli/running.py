"""The command as people run it: arguments and an environment in, two outputs and a code out."""

import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from cli.main import main

ROOT = Path(__file__).parents[2]
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("KAFKA_", "REDIS_", "AFTERGLOW_"))
}


@dataclass
class Done:
    """What came of a command."""

    code: int
    out: str
    err: str


def afterglow(*arguments: object, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end, in this process: starting one for each would take minutes."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    around = {**CLEAN, "COLUMNS": "200", **(env or {})}
    with called(list(map(str, arguments)), around), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return Done(code, *(text.buffer.getvalue().decode() for text in (out, err)))


@contextmanager
def called(arguments: list[str], env: Mapping[str, str]) -> Iterator[None]:
    """This process with another command line and environment."""
    argv, around = sys.argv, dict(os.environ)
    try:
        sys.argv = ["afterglow", *arguments]
        os.environ.clear()
        os.environ.update(env)
        yield
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(around)


def right(*arguments, env=None):
    """The output of a command that must go well."""
    done = afterglow(*arguments, env=env)
    assert (done.code, done.err) == (0, "")
    return done.out


def wrong(*arguments, env=None):
    """The lines said of a command that must be refused."""
    done = afterglow(*arguments, env=env)
    assert (done.code, done.out) == (2, ""), done.err
    return done.err.splitlines()


def until(question, seconds=60):
    """The first true answer."""
    deadline_s = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline_s, f"nothing came within {seconds} s"
        time.sleep(0.05)
    return answer
