"""The inputs of `cargo xtask eos`, written in transactions by confluent-kafka: `BOOTSTRAP PREFIX PROCESS SEED FILE
LOADED`. Every fourth transaction is aborted on purpose. Ends after its standard input has ended.

LOADED has a line for each record, `topic partition timestamp key value` between tabs, and a line `commit` or
`abort` behind those of a transaction."""

import random
import sys
import threading
import time

from confluent_kafka import Producer

from eos_worker import Worker

IN_PARTITIONS = 4
STREAM_PARTITIONS = 2
WORDS = "log record batch offset leader epoch segment index flush fetch produce commit abort marker".split()
# Between the records that are joined; the window is a second.
STEP_MS = 200
KEYS = 5
PAUSE_S = 0.03


def main():
    bootstrap, prefix, process, seed, path, loaded = sys.argv[1:]
    worker = Worker(bootstrap, prefix, "load", process, seed, path, "classic")
    producer = Producer(
        worker.settings({"transactional.id": worker.identity, "transaction.timeout.ms": 60_000})
    )
    producer.init_transactions(60)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    chance = random.Random(int(seed))
    # Nothing of a run is old enough to be deleted.
    first = int(time.time() * 1000)
    number = 0
    with open(loaded, "w", encoding="utf-8") as kept:
        while not over.is_set():
            number += 1
            lines = []

            def body():
                for topic, partition, at, key, value in stream_records(chance, first, number):
                    topic = f"{prefix}-{topic}"
                    producer.produce(topic, partition=partition, key=key, value=value, timestamp=at)
                    lines.append(f"{topic}\t{partition}\t{at}\t{key}\t{value}\n")
                for _ in range(chance.randint(1, 12)):
                    partition = chance.randrange(IN_PARTITIONS)
                    worker.send(producer, f"{prefix}-in", partition, "")
                    lines.append(f"{prefix}-in\t{partition}\t0\t\t{worker.history.last}\n")

            committed = worker.transaction(producer, body, chance.randrange(4) > 0)
            kept.writelines([*lines, "commit\n" if committed else "abort\n"])
            kept.flush()
            over.wait(PAUSE_S)


def stream_records(chance, first, number):
    """A line of words, and one record on each side of the join."""
    line = " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))
    yield "lines", number % STREAM_PARTITIONS, first, f"{number}", line
    for side in ["left", "right"]:
        at = first + number * STEP_MS + chance.randint(-500, 500)
        key = chance.randrange(KEYS)
        yield side, key % STREAM_PARTITIONS, at, f"{key}", f"{side[0]}{number}"


if __name__ == "__main__":
    main()
