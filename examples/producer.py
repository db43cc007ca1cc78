"""Put three things into a customer's cart: ``python examples/producer.py ann``."""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Producer

event = {"user_id": sys.argv[1], "type": "add_to_cart", "ts": int(time.time() * 1000)}
producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
for item in ("teapot", "cup", "kettle"):
    value = json.dumps({**event, "event_id": str(uuid.uuid4()), "item_id": item})
    producer.produce("events", key=event["user_id"], value=value)
producer.flush()
