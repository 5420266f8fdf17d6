"""Writes lines of standard input to a topic with confluent-kafka and keeps what was acknowledged.

`flights_load.py BOOTSTRAP TOPIC QUEUE ACKNOWLEDGED`. A line is a key, a tab and a value. The producer is
idempotent, holds at most QUEUE records, and is on its own when the broker goes away. For each record that
was acknowledged, ACKNOWLEDGED gets the line `key<tab>partition<tab>offset`. The exit code is 0 only when
all of them were.
"""

import sys

from confluent_kafka import Producer

# Longer than the runner waits: a record must not be given up because the broker is away for a while.
GIVE_UP_MS = 3_600_000


class Acknowledged:
    def __init__(self, out):
        self.out = out
        self.failures = []

    def __call__(self, error, message):
        if error:
            self.failures.append(f"{message.key()}: {error}")
            return
        # A retry that the broker recognises may be answered without its offset.
        offset = message.offset()
        where = f"\t{message.partition()}\t{-1 if offset is None else offset}\n"
        self.out.write(message.key() + where.encode())


def load(producer, topic, delivered):
    for line in sys.stdin.buffer:
        key, _, value = line.rstrip(b"\n").partition(b"\t")
        while True:
            try:
                producer.produce(topic, key=key, value=value, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)


def main(bootstrap, topic, queue, path):
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": GIVE_UP_MS,
            "queue.buffering.max.messages": int(queue),
            "reconnect.backoff.max.ms": 1000,
        }
    )
    with open(path, "wb") as out:
        delivered = Acknowledged(out)
        load(producer, topic, delivered)
        left = producer.flush()
    for failure in delivered.failures[:10]:
        print(failure, file=sys.stderr)
    sys.exit(1 if left or delivered.failures else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
