"""Reads what `cargo xtask eos` left, as confluent-kafka sees it under read_committed.

`follow BOOTSTRAP PROCESS FILE TOPICS...` reads until SIGTERM, writes a history of what it is given, and prints
how many records of each topic it has, whenever that has changed. `read BOOTSTRAP PROCESS FILE FOLDER GROUPS
TOPICS...` reads all topics to their ends, each into a file of its name in the folder, one line `partition offset
key value` for each record, and the committed offsets of the groups (between commas) into `committed`.

TOPICS are names; `+` before a name says that it belongs to the history."""

import json
import signal
import sys
import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    OFFSET_BEGINNING,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from eos_history import History, log_of, now
from eos_worker import patient

ISOLATION = "read_committed"
MOST = 500
# How long the end of a topic is waited for.
BOUND_S = 120


class Reading:
    def __init__(self, bootstrap, topics, eof):
        self.recorded = {topic[1:] for topic in topics if topic.startswith("+")}
        self.topics = [topic.lstrip("+") for topic in topics]
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "unused",
                "isolation.level": ISOLATION,
                "enable.auto.commit": False,
                "enable.partition.eof": eof,
                "reconnect.backoff.max.ms": 500,
                "log_level": 3,
            }
        )
        self.logs = []
        for topic in self.topics:
            found = patient(lambda topic=topic: self.consumer.list_topics(topic, timeout=10))
            self.logs += [TopicPartition(topic, p, OFFSET_BEGINNING) for p in found.topics[topic].partitions]
        self.consumer.assign(self.logs)


def follow(bootstrap, process, path, *topics):
    stopped = []
    for number in [signal.SIGTERM, signal.SIGINT]:
        signal.signal(number, lambda *_: stopped.append(1))
    history = History(path, int(process))
    reading = Reading(bootstrap, topics, False)
    history.ok("assign", logs=[log_of(at.topic, at.partition) for at in reading.logs])
    counts = {topic: 0 for topic in reading.topics}
    while not stopped:
        began = now()
        messages = [m for m in reading.consumer.consume(MOST, 0.2) if not m.error()]
        history.poll(began, ISOLATION, [m for m in messages if m.topic() in reading.recorded])
        for message in messages:
            counts[message.topic()] += 1
        if messages:
            print(json.dumps(counts), flush=True)


def read(bootstrap, process, path, folder, groups, *topics):
    history = History(path, int(process))
    began = now()
    reading = Reading(bootstrap, topics, True)
    files = {topic: open(f"{folder}/{topic}", "wb") for topic in reading.topics}
    left = {(at.topic, at.partition) for at in reading.logs}
    messages = []
    bound = time.monotonic() + BOUND_S
    while left:
        if time.monotonic() > bound:
            sys.exit(f"no end of {sorted(left)} within {BOUND_S} s")
        for message in reading.consumer.consume(MOST, 0.2):
            if message.error() is None:
                messages.append(message)
                at = f"{message.partition()}\t{message.offset()}\t".encode()
                line = at + (message.key() or b"") + b"\t" + message.value() + b"\n"
                files[message.topic()].write(line)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left.discard((message.topic(), message.partition()))
            elif message.error().fatal():
                raise KafkaException(message.error())
    for file in files.values():
        file.close()
    ends = [log_of(at.topic, at.partition) for at in reading.logs if at.topic in reading.recorded]
    history.poll(began, ISOLATION, [m for m in messages if m.topic() in reading.recorded], ends)
    committed(bootstrap, history, folder, groups.split(","))


def committed(bootstrap, history, folder, groups):
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
    with open(f"{folder}/committed", "w", encoding="utf-8") as file:
        for group in groups:
            history.invoke("committed", group=group)
            (future,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
            found = future.result(timeout=30).topic_partitions
            offsets = {log_of(at.topic, at.partition): at.offset for at in found if at.offset >= 0}
            history.ok("committed", group=group, offsets=offsets)
            for log, offset in sorted(offsets.items()):
                file.write(f"{group}\t{log}\t{offset}\n")


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    {"follow": follow, "read": read}[mode](*arguments)
