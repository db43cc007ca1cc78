"""Publish one event. KAFKA_BOOTSTRAP names the broker."""

import json
import os
import time
import uuid

from confluent_kafka import Producer

event = {
    "event_id": str(uuid.uuid4()),
    "user_id": "ann",
    "type": "product_view",
    "ts": int(time.time() * 1000),
    "item_id": "teapot",
}
producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
producer.produce("events", key=event["user_id"], value=json.dumps(event))
producer.flush()
