"""A cluster lives and dies as a whole, with real child processes that misbehave in every way."""

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from dataflows.supervisor import Patience, Supervisor
from operators.stop import Stop

# What pytest runs in threads of its own is not in the workers: these become other programs.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

FINAL = 75
HEAD = """
import os, signal, sys, time
pipe, mark = int(sys.argv[1]), sys.argv[2]
def beat():
    os.write(pipe, b".")
def rest():
    while True:
        time.sleep(0.02)
def work(seconds=1e9):
    end_s = time.monotonic() + seconds
    open(mark + ".at-work", "w").write(str(os.getpid()))
    while time.monotonic() < end_s:
        beat()
        time.sleep(0.02)
def drain(*_):
    open(mark + ".drained", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, drain)
"""
WORKS = "work()"
FAILS = "sys.exit(1)"
IS_KILLED = "beat(); os.kill(os.getpid(), signal.SIGKILL)"
IS_REPLACED = f"sys.exit({FINAL})"
IS_DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); work()"
NOTICES_NOTHING = "signal.signal(signal.SIGTERM, signal.SIG_IGN); work(0); rest()"
NEVER_BEATS = "rest()"
STILL_LOADS = "signal.signal(signal.SIGTERM, signal.SIG_DFL); work(0); rest()"
FALLS_SILENT = "beat(); rest()"
CLOSES_ITS_PIPE = "beat(); os.close(pipe); rest()"
FREEZES = "beat(); os.kill(os.getpid(), signal.SIGSTOP)"
# asked to drain between its mark and its freezing, it would
FREEZES_AT_WORK = f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); work(0); {FREEZES}"

QUICK = Patience(
    start_s=30, watchdog_s=30, drain_s=20, failures=8, steady_s=30, pause_s=0.05, longest_pause_s=1
)


def become(script, pipe, mark):
    """Go on as another program, with nothing loaded but what scripts need."""
    os.set_inheritable(pipe, True)
    arguments = ["-I", "-S", "-c", f"{HEAD}\n{script}", str(pipe), mark]
    os.execv(sys.executable, [sys.executable, *arguments])


@dataclass
class Cluster:
    """A supervisor whose workers follow scripts, round by round; the last round repeats.

    Attributes:
        said: what the supervisor said.
    """

    directory: Path
    rounds: list[list[str]]
    patience: Patience
    stop: Stop = field(default_factory=Stop)
    said: list[str] = field(default_factory=list)

    def work(self, number, addresses, pipe):
        """In the worker: its file of calls counts the rounds; then it becomes another program."""
        calls = self.directory / f"calls-{number}"
        with calls.open("a") as file:
            file.write(",".join(addresses) + "\n")
        start = len(calls.read_text().splitlines())
        script = self.rounds[min(start, len(self.rounds)) - 1][number]
        mark = str(self.directory / f"{start}-{number}")
        become(script, pipe, mark)

    def addresses(self, number):
        """What a worker was told at each of its starts."""
        calls = self.directory / f"calls-{number}"
        lines = calls.read_text().splitlines() if calls.exists() else []  # killed before its turn
        return [line.split(",") for line in lines]

    @property
    def starts(self):
        """How often all were started."""
        return max(len(self.addresses(number)) for number in range(len(self.rounds[0])))

    def run(self):
        workers, say = len(self.rounds[0]), self.said.append
        return Supervisor(
            workers, self.work, self.stop, self.patience, final=(2, FINAL), say=say
        ).run()

    def stop_when(self, *names):
        """Ask for the end as soon as all these files are there, as a signal would."""

        def wait():
            deadline_s = time.monotonic() + 20
            while not all((self.directory / name).exists() for name in names):
                if time.monotonic() > deadline_s:
                    break  # what the test waits for did not come: its assertions say so
                time.sleep(0.01)
            self.stop.request()

        threading.Thread(target=wait, daemon=True).start()

    def files(self, kind):
        """Which workers, as start-number, have left such a file."""
        return sorted(path.stem for path in self.directory.glob(f"*.{kind}"))


@pytest.fixture
def cluster(tmp_path):
    """Makes clusters; none of their workers may be left in the end."""
    before = set(psutil.Process().children())

    def make(*rounds, **patience):
        chosen = {name: getattr(QUICK, name) for name in Patience.__slots__} | patience
        return Cluster(tmp_path, list(rounds), Patience(**chosen))

    yield make
    assert set(psutil.Process().children()) <= before


def took(function):
    """The result, and how long it took."""
    began_s = time.monotonic()
    return function(), time.monotonic() - began_s


def test_all_drain_when_asked_to(cluster):
    made = cluster([WORKS] * 3)
    made.stop_when("1-0.at-work", "1-1.at-work", "1-2.at-work")
    assert made.run() == 0
    assert made.files("drained") == ["1-0", "1-1", "1-2"]
    assert made.starts == 1
    assert made.said == []


def test_a_stop_while_workers_start_is_a_good_end(cluster):
    made = cluster([STILL_LOADS] * 2)
    made.stop_when("1-0.at-work", "1-1.at-work")
    assert made.run() == 0


def test_each_worker_is_told_its_number_and_the_addresses_of_all(cluster):
    made = cluster([WORKS] * 3)
    made.stop_when("1-0.at-work", "1-1.at-work", "1-2.at-work")
    made.run()
    told = [made.addresses(number) for number in range(3)]
    assert told[0] == told[1] == told[2]
    (addresses,) = told[0]
    assert len(set(addresses)) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", address) for address in addresses)


@pytest.mark.parametrize(
    ("script", "how"),
    [(FAILS, r"ended \(1\)"), (IS_KILLED, "was ended by signal 9")],
    ids=["fails", "killed"],
)
def test_when_one_dies_all_start_again(cluster, script, how):
    made = cluster([WORKS, script], [WORKS, WORKS])
    made.stop_when("2-0.at-work", "2-1.at-work")
    assert made.run() == 0
    assert made.starts == 2
    assert made.files("drained") == ["2-0", "2-1"], "the first round was not asked, but ended"
    (said,) = made.said
    assert re.match(rf"worker 1 \(process \d+\) {how}; all 2 start again in", said)


def test_a_worker_that_ends_well_unasked_is_a_failure_too(cluster):
    made = cluster([WORKS, "sys.exit(0)"], failures=1)
    assert made.run() == 1
    assert "worker 1" in made.said[0]
    assert "ended (0)" in made.said[0]


def test_a_final_exit_code_is_returned_at_once(cluster):
    made = cluster([WORKS, IS_REPLACED])
    code, seconds = took(made.run)
    assert (code, made.starts) == (FINAL, 1)
    assert seconds < 10
    (said,) = made.said
    assert re.match(r"worker 1 \(process \d+\) ended \(75\); that is final", said)


def test_a_final_exit_code_counts_though_another_worker_ended_first(cluster):
    made = cluster([FAILS, f"work(0.4); {IS_REPLACED}"])
    assert (made.run(), made.starts) == (FINAL, 1)
    assert "worker 1" in made.said[0]


DIES_FIRST = """
beat()
os.close(pipe)
time.sleep(0.3)
open(mark + ".dying", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""
NOTICES = """
beat()
os.close(pipe)
while not os.path.exists(mark[:-1] + "1.dying"):
    time.sleep(0.001)
sys.exit(1)
"""


def test_who_was_killed_is_named_and_not_who_noticed(cluster):
    made = cluster([NOTICES, DIES_FIRST], failures=1)
    assert made.run() == 1
    assert re.match(r"worker 1 \(process \d+\) was ended by signal 9", made.said[0])


def test_failing_again_and_again_gives_up_and_says_so(cluster):
    made = cluster([FAILS], failures=5, pause_s=1, longest_pause_s=3)
    code, seconds = took(made.run)
    assert (code, made.starts) == (1, 5)
    *before, last = made.said
    first, second, third, fourth = pauses(before)
    assert first == 1
    assert second <= 2
    assert max(third, fourth) <= 3
    assert seconds >= 1 + 2 + 3 + 3
    assert re.match(r"worker 0 \(process \d+\) ended \(1\); that was failure 5 in a row", last)
    assert "gives up" in last
    assert "mend it and start again" in last


def pauses(said):
    """The seconds before each start, by what was said."""
    return [float(re.findall(r"start again in ([\d.]+) s", text)[0]) for text in said]


def test_who_has_run_for_long_starts_again_soon(cluster):
    made = cluster(["work(2); sys.exit(1)"], failures=3, pause_s=0.5, longest_pause_s=5)
    assert (made.run(), made.starts) == (1, 3)
    assert pauses(made.said[:-1]) == [0.5, 0.5]


def test_a_steady_run_ends_the_row_of_failures(cluster):
    made = cluster([FAILS], ["work(1.5); sys.exit(1)"], [FAILS], failures=2, steady_s=1.0)
    assert (made.run(), made.starts) == (1, 3)


def test_a_stop_while_it_pauses_is_a_stop(cluster):
    made = cluster([FAILS], pause_s=20, longest_pause_s=20)
    made.said = said = Announced(made.stop)
    code, seconds = took(made.run)
    assert (code, made.starts, len(said)) == (0, 1, 1)
    assert seconds < 10


class Announced(list):
    """Messages; the first one brings the stop."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def append(self, text):
        super().append(text)
        self.stop.request()


def test_a_worker_that_never_beats_is_killed_when_its_start_takes_too_long(cluster):
    made = cluster([WORKS, NEVER_BEATS], start_s=1, failures=1)
    code, seconds = took(made.run)
    assert code == 1
    assert 1 <= seconds < 10
    assert re.match(r"worker 1 \(process \d+\) has given no sign of life for 1 s", made.said[0])


def test_a_start_may_take_longer_than_a_pause_between_beats(cluster):
    made = cluster(["time.sleep(1.5); work()"], start_s=20, watchdog_s=1)
    made.stop_when("1-0.at-work")
    assert (made.run(), made.starts, made.said) == (0, 1, [])


@pytest.mark.parametrize(
    "script", [FALLS_SILENT, FREEZES, CLOSES_ITS_PIPE], ids=["silent", "frozen", "closed"]
)
def test_a_worker_that_falls_silent_is_killed_and_all_start_again(cluster, script):
    made = cluster([WORKS, script], [WORKS, WORKS], watchdog_s=1)
    made.stop_when("2-0.at-work", "2-1.at-work")
    code, seconds = took(made.run)
    assert (code, made.starts) == (0, 2)
    assert seconds >= 1
    (said,) = made.said
    assert re.match(r"worker 1 \(process \d+\) has given no sign of life for 1 s; all 2", said)


@pytest.mark.parametrize("script", [IS_DEAF, FREEZES_AT_WORK], ids=["deaf", "frozen"])
def test_who_does_not_drain_is_killed(cluster, script):
    made = cluster([WORKS, script], drain_s=1)
    made.stop_when("1-0.at-work", "1-1.at-work")
    code, seconds = took(made.run)
    assert code != 0, "not everything was drained, and whoever asked must see it"
    assert 1 <= seconds < 10
    assert made.files("drained") == ["1-0"]
    assert made.starts == 1


KILLED = """
import os, sys
from dataflows.supervisor import Supervisor
from operators.stop import Stop
script, directory = sys.argv[1:]
def work(number, addresses, pipe):
    os.set_inheritable(pipe, True)
    mark = f"{directory}/1-{number}"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", script, str(pipe), mark])
Supervisor(2, work, Stop()).run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
def test_when_the_supervisor_is_killed_its_workers_end_too(tmp_path):
    supervisor = subprocess.Popen(
        [sys.executable, "-c", KILLED, f"{HEAD}\n{NOTICES_NOTHING}", str(tmp_path)],
        cwd=Path(__file__).parents[2],
    )
    try:
        wait_until(lambda: len(children(supervisor.pid, tmp_path)) == 2)
        workers = children(supervisor.pid, tmp_path)
    finally:
        supervisor.kill()
        supervisor.wait()
    try:
        wait_until(lambda: not any(map(lives, workers)))
    finally:
        for worker in filter(lives, workers):
            worker.kill()


def children(pid, directory):
    """The supervisor's workers that are at work by their own account."""
    at_work = [path.read_text() for path in directory.glob("*.at-work")]
    return [p for p in psutil.Process(pid).children() if str(p.pid) in at_work]


def lives(process):
    """Whether it runs; nobody may be there to bury who has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds):
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
