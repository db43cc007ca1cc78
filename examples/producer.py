"""Put three things into a customer's cart: ``python examples/producer.py ann``."""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Producer

broker = os.environ.get("KAFKA_BOOTSTRAP") or sys.exit("KAFKA_BOOTSTRAP must name the broker")
user_id = sys.argv[1] if len(sys.argv) == 2 else sys.exit("say who: examples/producer.py ann")
event = {"user_id": user_id, "type": "add_to_cart", "ts": int(time.time() * 1000)}
producer = Producer({"bootstrap.servers": broker, "log_level": 0})
for item in ("teapot", "cup", "kettle"):
    value = json.dumps({**event, "event_id": str(uuid.uuid4()), "item_id": item})
    producer.produce("events", key=user_id, value=value)
sys.exit(f"no broker answers at {broker}: has the demo ended?" if producer.flush(10) else 0)
