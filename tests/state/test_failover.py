"""One address that a failover points at another server: commits go on there at once."""

import socket
import threading
import time
from contextlib import suppress

import pytest
import redis

from dataflows.embedded import EmbeddedStore
from state.checkpoint import Checkpoint
from state.store import Store
from tests.faults.lives import START_MS, Log, new_lane

pytestmark = pytest.mark.servers


class Address:
    """Leads to a server; connections that were made before stay where they are."""

    def __init__(self, port):
        self.leads_to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for end in (self._server, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self.leads_to))
                self._ends += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(here, there):
        with suppress(OSError):
            while some := here.recv(1 << 16):
                there.sendall(some)
        for end in (here, there):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def until(question):
    deadline_s = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_server_that_became_a_replica_is_left_for_the_one_at_its_address():
    events = [
        {"event_id": f"e{n}", "user_id": f"u{n}", "type": "search", "ts": START_MS + n * 1_000}
        for n in range(30)
    ]
    log, lane = Log(events), new_lane()
    with EmbeddedStore() as former, EmbeddedStore() as present:
        one, other = (redis.Redis.from_url(each.url) for each in (former, present))
        other.replicaof("127.0.0.1", former.port)
        until(lambda: other.info("replication")["master_link_status"] == "up")
        address = Address(former.port)
        store = Store(f"redis://127.0.0.1:{address.port}", give_up_s=5.0)
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        at = dict.fromkeys(log.ends, 0)
        batch = log.batch(at, 3)
        lane.apply(batch)
        checkpoint.commit(heartbeat=True)
        assert one.wait(1, 5_000) == 1
        other.replicaof("NO", "ONE")
        one.replicaof("127.0.0.1", present.port)
        address.leads_to = present.port
        lane.apply(log.batch(at | {span.partition: span.stop for span in batch.spans}, 3))
        checkpoint.commit(heartbeat=True)
        last = Store(present.url)
        kept = {user for shard in lane.shards for user, _ in last.profiles(shard)}
        assert kept == set(lane.users.ids.texts(lane.users.everybody()).strings())
        for each in (last, store, one, other, address):
            each.close()
