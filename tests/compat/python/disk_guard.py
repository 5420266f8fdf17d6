"""Sends numbered records with librdkafka's idempotent producer: BOOTSTRAP TOPIC COUNT.

Prints how many were delivered and how many were given up. The records are those of `disk_guard.rs`.
"""

import sys

from confluent_kafka import Producer


def main():
    bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    outcome = {"delivered": 0, "failed": 0}

    def on_delivery(error, _message):
        outcome["failed" if error else "delivered"] += 1

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "batch.size": 100_000,
            "linger.ms": 5,
        }
    )
    for number in range(count):
        value = b"%06d " % number + b"x" * 8000
        while True:
            try:
                producer.produce(topic, value, partition=0, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    print("delivered {delivered} failed {failed}".format(**outcome))


main()
