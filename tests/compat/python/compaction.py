"""A compacted topic under a real client: what is left is the latest value of each key.

    compaction.py --dlog target/debug/dlog --kills 8 --seed 7 --out dlog.json
    compaction.py --bootstrap 127.0.0.1:9092 --seed 7 --out kafka.json
    compaction.py --compare dlog.json kafka.json

librdkafka's idempotent producer writes the same records, in the same order, for the same seed. With --dlog
the server is started here, with eager settings, and killed (SIGKILL) at random moments, while a consumer
reads from the start again and again. At the end the logs are rolled, the compaction of everything before
the last records is waited for, and what a new consumer reads is compared with a map of what was written.
--compare compares what two servers kept, record by record, offsets included.
"""

import argparse
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

# Another one each time: a server that stays may have those of earlier runs.
TOPIC = f"compacted-{time.time_ns()}"
PARTITIONS = 2
PATIENCE_S = 240


def records(seed, count, keys):
    """(partition, key, value or None), the same for the same seed."""
    source = random.Random(seed)
    for number in range(count):
        key = int(keys * source.random() ** 2)
        size = source.choice([20, 200, 1500, 3000])
        value = None
        if source.random() > 0.05:
            value = f"{number}:".encode() + source.randbytes(size // 2).hex().encode()
        yield key % PARTITIONS, f"key-{key}".encode(), value


class Server:
    """dlog on one port, killed and started again."""

    def __init__(self, binary):
        self.binary = binary
        self.dir = tempfile.TemporaryDirectory(prefix="compaction-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = open(pathlib.Path(self.dir.name) / "server.log", "ab")
        self.start()

    def start(self):
        settings = {
            "data-dir": self.dir.name + "/data",
            "kafka": f"127.0.0.1:{self.port}",
            "http": "off",
            "log-cleaner-backoff-ms": 50,
        }
        args = [self.binary, "serve"]
        for name, value in settings.items():
            args += [f"--{name}", str(value)]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=self.log)
        for line in self.process.stdout:
            if line.startswith(b"ready"):
                return
        raise SystemExit("the server did not become ready: see " + self.log.name)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def compactions(self):
        lines = pathlib.Path(self.log.name).read_text(errors="replace").splitlines()
        return sum("log compacted" in line for line in lines)


def retry(what):
    """The server may be gone for a moment."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return what()
        except KafkaException:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def read(bootstrap, stop=None):
    """Every record of each partition up to its end now: offset, key, value."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{time.monotonic_ns()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    found = {partition: [] for partition in range(PARTITIONS)}
    consumer.assign([TopicPartition(TOPIC, p, 0) for p in found])
    left = set(found)
    until = time.monotonic() + PATIENCE_S
    while left and not (stop and stop.is_set()):
        if time.monotonic() > until:
            raise SystemExit(f"the reader got stuck in {left}")
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            elif message.error().code() in (KafkaError._AUTO_OFFSET_RESET,):
                raise SystemExit(str(message.error()))
            continue
        records = found[message.partition()]
        if records and records[-1][0] >= message.offset():
            raise SystemExit(f"offset {message.offset()} came after {records[-1][0]}")
        records.append((message.offset(), message.key(), message.value()))
    consumer.close()
    return found


def check(found, written, ends, complete, tombstones=True):
    """`written`: for each partition its records by offset, as far as they are known."""
    for partition, records in found.items():
        for offset, key, value in records:
            expected = written[partition][offset] if offset < len(written[partition]) else None
            if expected and expected != (key, value):
                raise SystemExit(f"{partition}@{offset} is {key} {value[:20] if value else value}")
        if not complete:
            continue
        latest = {}
        for offset, (key, value) in enumerate(written[partition][: ends[partition]]):
            latest[key] = (offset, key, value)
        if not tombstones:
            latest = {key: record for key, record in latest.items() if record[2] is not None}
        kept = [record for record in records if record[0] < ends[partition]]
        if sorted(latest.values()) != kept:
            missing = set(latest.values()) - set(kept)
            raise SystemExit(
                f"partition {partition}: {len(kept)} records are left, {len(latest)} keys,"
                f" {len(missing)} missing, first {sorted(missing)[:1]}"
            )


def compacted_fully(found, ends):
    for partition, records in found.items():
        keys = [key for offset, key, _ in records if offset < ends[partition]]
        if len(keys) != len(set(keys)):
            return False
    return True


def without_tombstones(bootstrap, admin, producer, ends):
    """Has tombstones go: the run that keeps them first sets their horizon, one after that drops them."""
    set_config(admin, "delete.retention.ms", "100")
    set_config(admin, "min.cleanable.dirty.ratio", "0")
    # A horizon that was set stays, so the topic is emptied of its clean part's horizons by new ones: the
    # records are written again, which makes their older selves go, tombstones among them.
    again = {
        partition: [(key, value) for offset, key, value in records if offset < ends[partition]]
        for partition, records in read(bootstrap).items()
    }
    for partition, records in again.items():
        for key, value in records:
            if value is None:
                producer.produce(TOPIC, None, key, partition)
    producer.flush()
    until = time.monotonic() + PATIENCE_S
    while True:
        for partition in again:
            producer.produce(TOPIC, b"end", b"end-0", partition)
        producer.flush()
        time.sleep(1.2)
        found = read(bootstrap)
        left = [r for records in found.values() for r in records if r[2] is None]
        if not left or time.monotonic() > until:
            return found


def set_config(admin, name, value):
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def run(args):
    server = Server(args.dlog) if args.dlog else None
    bootstrap = f"127.0.0.1:{server.port}" if server else args.bootstrap
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    configs = {
        "cleanup.policy": "compact",
        "segment.bytes": str(1 << 20),
        "min.cleanable.dirty.ratio": "0.01",
    }
    if args.tombstones_go:
        # Long enough that none goes before the first check.
        configs["delete.retention.ms"] = "86400000"
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=configs)]).values():
        future.result()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 2,
            "compression.type": args.codec,
            "message.timeout.ms": PATIENCE_S * 1000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    failed = []
    written = {partition: [] for partition in range(PARTITIONS)}

    def delivered(error, message):
        if error:
            failed.append(str(error))
        elif written[message.partition()][message.offset()][0] != message.key():
            failed.append(f"{message.partition()}@{message.offset()} was acknowledged for another key")

    stop, trouble, rounds = threading.Event(), [], [0]

    def read_on():
        while not stop.is_set():
            try:
                check(read(bootstrap, stop), written, None, complete=False)
                rounds[0] += 1
            except (SystemExit, KafkaException) as error:
                trouble.append(str(error))
                return

    reader = threading.Thread(target=read_on)
    reader.start()
    moments = random.Random(args.seed + 1)
    kill_at = sorted(moments.sample(range(args.records), args.kills if server else 0))
    begin = time.monotonic()
    for number, (partition, key, value) in enumerate(records(args.seed, args.records, args.keys)):
        written[partition].append((key, value))
        while True:
            try:
                producer.produce(TOPIC, value, key, partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if kill_at and number >= kill_at[0]:
            kill_at.pop(0)
            # In the middle of whatever it is doing; a compaction, most of the time.
            time.sleep(moments.random() * 0.4)
            server.kill()
            server.start()
    while producer.flush(1):
        pass
    stop.set()
    reader.join()
    for problem in failed[:3] + trouble:
        raise SystemExit(problem)
    ends = {partition: len(written[partition]) for partition in written}
    retry(lambda: set_config(admin, "segment.ms", "100" if server else "1000"))
    # Rolls the logs; what is before these records is not in the active segments.
    for round_ in range(2):
        time.sleep(1.2)
        for partition in written:
            producer.produce(TOPIC, b"end", f"end-{round_}".encode(), partition)
        producer.flush()
    until = time.monotonic() + PATIENCE_S
    while not compacted_fully(found := read(bootstrap), ends):
        if time.monotonic() > until:
            break
        time.sleep(0.5)
    check(found, written, ends, complete=True)
    if args.tombstones_go:
        found = without_tombstones(bootstrap, admin, producer, ends)
        check(found, written, ends, complete=True, tombstones=False)
    if server:
        server.kill()
        server.start()
        again = read(bootstrap)
        if again != found:
            raise SystemExit("a restart changed what is read")
        print(f"compactions reported: {server.compactions()}")
        server.stop()
    kept = {
        partition: [[o, k.decode(), v.decode() if v is not None else None] for o, k, v in records]
        for partition, records in found.items()
    }
    for partition in kept:
        kept[partition] = [record for record in kept[partition] if record[0] < ends[partition]]
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(kept))
    left = sum(map(len, kept.values()))
    print(
        f"ok: {args.records} records written in {time.monotonic() - begin:.0f} s, {left} left,"
        f" {args.kills if server else 0} kills, read {rounds[0]} times meanwhile, seed {args.seed}"
    )


def compare(paths):
    ours, theirs = (json.loads(pathlib.Path(path).read_text()) for path in paths)
    for partition in ours:
        if ours[partition] != theirs[partition]:
            difference = [r for r in ours[partition] if r not in theirs[partition]]
            raise SystemExit(f"partition {partition} differs, first in {difference[:1]}")
    print(f"the same {sum(map(len, ours.values()))} records on both, offsets included")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dlog")
    parser.add_argument("--bootstrap")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=400)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--codec", default="lz4")
    parser.add_argument("--tombstones-go", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--out")
    parser.add_argument("--compare", nargs=2)
    args = parser.parse_args()
    if args.compare:
        compare(args.compare)
    else:
        run(args)


if __name__ == "__main__":
    sys.exit(main())
