"""Print segment changes as they come, each with its cause."""

import json
import os

from confluent_kafka import Consumer

config = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "group.id": "newsletter"}
consumer = Consumer({**config, "auto.offset.reset": "earliest"})
consumer.subscribe(["segment-changes"])
while True:
    message = consumer.poll(1.0)
    if message is not None and message.error() is None:
        change = json.loads(message.value())
        print(change["ts"], change["user_id"], change["action"], change["segment"], flush=True)
        print(change["cause"], flush=True)
