"""kcat, started as a process for every call.

It creates no topics, so those come from confluent-kafka, which is the same library underneath.
"""

import itertools
import json
import queue
import re
import subprocess
import threading

from confluent_client import Confluent
from dataset import Record
from report import Failed, NotSupported
from scenario import Adapter, main

WAIT_S = 20
KEY_END = "<key-end>"
RECORD_END = "<record-end>"
# Lengths first, then the bytes: keys and values may hold anything.
FORMAT = "%T %p %o %K %S %h\n%k%s"


class Kcat(Adapter):
    sets_timestamps = False
    commits_itself = True
    ERRORS = {
        "unknown-topic": "Unknown topic or partition|Unknown partition|timed out",
        "too-large": "Message size too large",
        "out-of-range": "Offset out of range",
    }

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.helper = Confluent(bootstrap)

    def run(self, *arguments, stdin=b""):
        command = ["kcat", "-b", self.bootstrap, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=WAIT_S, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr.decode(errors="replace").strip())
        return done.stdout

    def prepare(self, topic, partitions, configs):
        self.helper.create(topic, partitions, configs)

    def metadata(self, *arguments):
        return json.loads(self.run("-L", "-J", *arguments))

    def topics(self):
        return {topic["topic"] for topic in self.metadata()["topics"]}

    def brokers(self):
        return len(self.metadata()["brokers"])

    def produce(self, records, **settings):
        base = ["-z", settings.get("codec", "none"), "-X", f"acks={settings.get('acks', 'all')}"]
        if settings.get("idempotent"):
            base += ["-X", "enable.idempotence=true"]
        if settings.get("small_batches"):
            base += ["-X", "batch.num.messages=10"]
        if settings.get("unlimited"):
            base += ["-X", "message.max.bytes=8000000"]
        if settings.get("short"):
            base += ["-X", "message.timeout.ms=3000"]

        # One process writes records of one kind: headers and nulls are options, not input.
        def kind(record):
            headers = [f"{key}={value.decode()}" for key, value in record.headers]
            return record.topic, record.partition, record.key is None, record.value is None, headers

        for key, group in itertools.groupby(records, kind):
            topic, partition, no_key, no_value, headers = key
            arguments = ["-P", "-t", topic, "-D", RECORD_END, *base]
            arguments += [] if partition is None else ["-p", str(partition)]
            arguments += [] if no_key else ["-K", KEY_END]
            arguments += ["-Z"] if no_value else []
            arguments += [argument for header in headers for argument in ("-H", header)]
            lines = [
                (b"" if no_key else record.key + KEY_END.encode()) + (record.value or b"")
                for record in group
            ]
            self.run(*arguments, stdin=RECORD_END.encode().join(lines))
        return None

    def reader(self, topic, partitions, offset, reset="earliest", wait_ms=500, committed=None):
        chosen = ["-p", str(partitions[0])] if len(partitions) == 1 else []
        policy = "error" if reset == "none" else reset
        arguments = ["-C", "-t", topic, *chosen, "-o", str(offset)]
        arguments += ["-X", f"topic.auto.offset.reset={policy}", "-X", f"fetch.wait.max.ms={wait_ms}"]
        level = "read_uncommitted" if committed is False else "read_committed"
        arguments += ["-X", f"isolation.level={level}"]
        return Reader(self.bootstrap, topic, arguments)

    def offset_for_time(self, topic, partition, timestamp):
        found = self.run("-Q", "-t", f"{topic}:{partition}:{timestamp}").decode()
        return int(re.search(r"offset (-?\d+)", found)[1])

    def bounds(self, topic, partition):
        return self.offset_for_time(topic, partition, -2), self.offset_for_time(topic, partition, -1)

    def partitions(self, topic):
        (found,) = self.metadata("-t", topic)["topics"]
        if "error" in found:
            raise Failed(found["error"])
        return len(found["partitions"])

    def transactional(self, identity):
        return Transactional(self, identity)

    def member(self, group, topic):
        arguments = ["-G", group, "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000"]
        return Reader(self.bootstrap, topic, [*arguments, "-X", "heartbeat.interval.ms=500", topic])

    def is_error(self, kind, failure):
        return kind in self.ERRORS and re.search(self.ERRORS[kind], str(failure)) is not None


class Reader:
    """A running kcat; threads take what it prints."""

    def __init__(self, bootstrap, topic, arguments):
        self.topic = topic
        self.records = queue.Queue()
        self.messages = []
        self.assigned = []
        # The consumer's options must come before the topics of -G.
        command = ["kcat", "-b", bootstrap, "-u", "-f", FORMAT, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.threads = [
            threading.Thread(target=self._take_records, daemon=True),
            threading.Thread(target=self._take_messages, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _take_records(self):
        out = self.process.stdout
        while head := out.readline():
            timestamp, partition, offset, key, value, headers = head.decode().rstrip("\n").split(" ", 5)
            self.records.put(
                Record(
                    self.topic,
                    int(partition),
                    self._bytes(int(key)),
                    self._bytes(int(value)),
                    [tuple_of(pair) for pair in headers.split(",") if pair],
                    int(timestamp),
                    int(offset),
                )
            )

    def _bytes(self, length):
        return None if length < 0 else self.process.stdout.read(length)

    def _take_messages(self):
        for message in self.process.stderr:
            text = message.decode(errors="replace").strip()
            self.messages.append(text)
            if rebalance := re.search(r"rebalanced .*?: (assigned|revoked): ?(.*)", text):
                parts = [int(number) for number in re.findall(r"\[(\d+)\]", rebalance[2])]
                self.assigned = parts if rebalance[1] == "assigned" else []

    def read(self, timeout_s):
        found = []
        try:
            found.append(self.records.get(timeout=timeout_s))
            while True:
                found.append(self.records.get_nowait())
        except queue.Empty:
            pass
        if not found and self.process.poll() not in (None, 0):
            raise Failed("; ".join(self.messages))
        return found

    def position(self, partition):
        raise NotSupported("kcat does not tell its position")

    def assignment(self):
        return self.assigned

    def close(self):
        self.process.terminate()
        self.process.wait(WAIT_S)


class Transactional:
    """What a kcat process is given is one transaction, which it commits at the end of its input."""

    def __init__(self, client, identity):
        self.client = client
        self.identity = identity
        self.values = []

    def begin(self):
        self.values = []

    def send(self, topic, value):
        self.values.append((topic, value))

    def offsets(self, group, topic, partition, offset):
        raise NotSupported("kcat commits no offsets in a transaction")

    def flush(self):
        raise NotSupported("kcat's transactions end with their input")

    def commit(self):
        (topic,) = {topic for topic, _ in self.values}
        arguments = ["-P", "-t", topic, "-p", "0", "-X", f"transactional.id={self.identity}"]
        self.client.run(*arguments, stdin=b"\n".join(value for _, value in self.values))

    def close(self):
        pass


def tuple_of(pair):
    key, _, value = pair.partition("=")
    return key, value.encode()


if __name__ == "__main__":
    main(Kcat)
