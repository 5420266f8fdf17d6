"""The steps, written once for all Python clients against the interface that `Adapter` describes."""

import os
import sys
import threading
import time

import dataset
from dataset import CODECS, FIRST_TIMESTAMP, Record
from report import Failed, NotSupported, check, line, same, step, until
from transactions import TransactionScenario

GROUP_PARTITIONS = 4
PARTITIONER_PARTITIONS = 7


class Adapter:
    """What a client library is asked for. A function that is not overridden is not supported."""

    # Whether records can be written with a timestamp of the caller's choice.
    sets_timestamps = True
    # Whether members of a group commit by themselves what they have read, and cannot be rewound.
    commits_itself = False

    def prepare(self, topic, partitions, configs):
        """Makes a topic that other steps need; with other means where the client has none."""
        self.create(topic, partitions, configs)

    def create(self, topic, partitions, configs):
        raise NotSupported("no topic creation")

    def topics(self):
        """The names of all topics."""
        raise NotSupported("no list of topics")

    def partitions(self, topic):
        """The number of partitions; raises for a topic that does not exist."""
        raise NotSupported("no description of topics")

    def delete_topic(self, topic):
        raise NotSupported("no deletion of topics")

    def alter_config(self, topic, name, value):
        raise NotSupported("no change of configs")

    def config(self, topic, name):
        raise NotSupported("no description of configs")

    def add_partitions(self, topic, total):
        raise NotSupported("no new partitions")

    def delete_records(self, topic, partition, offset):
        """Returns the new low watermark."""
        raise NotSupported("no deletion of records")

    def brokers(self):
        """The number of brokers."""
        raise NotSupported("no description of the cluster")

    def log_dirs(self):
        """The names of topics in the log directories."""
        raise NotSupported("no description of log directories")

    def produce(self, records, **settings):
        """Writes and waits; returns (partition, offset) pairs. Settings: codec, acks, idempotent,
        small_batches, unlimited (no size limit of the client's own), short (give up after seconds)."""
        raise NotImplementedError

    def reader(self, topic, partitions, offset, reset="earliest", wait_ms=500, committed=None):
        """Something with read(timeout_s) -> records, position(partition), close(); `committed` chooses what is
        shown of transactions."""
        raise NotImplementedError

    def offset_for_time(self, topic, partition, timestamp):
        """None when there is no record that late."""
        raise NotSupported("no offsets by timestamp")

    def bounds(self, topic, partition):
        """The first and the next offset."""
        raise NotSupported("no offsets")

    def transactional(self, identity):
        """Something with begin(), send(topic, value) to partition 0, offsets(group, topic, partition, offset),
        flush(), commit(), abort(), close()."""
        raise NotSupported("no transactions")

    def consumer_protocol_member(self, group, topic):
        """As `member`, with partitions that the broker gives out (KIP-848)."""
        raise NotSupported("only the classic group protocol")

    def member(self, group, topic):
        """Something with read, assignment() -> partitions, rewind(), commit(), close()."""
        raise NotSupported("no consumer groups")

    def groups(self):
        raise NotSupported("no list of groups")

    def group_members(self, group):
        """The number of members."""
        raise NotSupported("no description of groups")

    def committed(self, group, topic, partition):
        raise NotSupported("no list of committed offsets")

    def reset_offset(self, group, topic, partition, offset):
        raise NotSupported("no change of committed offsets")

    def delete_group(self, group):
        raise NotSupported("no deletion of groups")

    def is_error(self, kind, failure):
        """Whether the exception is the client's way to say this."""
        raise NotImplementedError


def read(reader, count):
    """Reads until that many records have come."""
    found = []

    def more():
        found.extend(reader.read(0.2))
        return len(found) >= count

    until(more, lambda: f"{len(found)} of {count} records came")
    return found


class Scenario:
    def __init__(self, adapter, prefix):
        self.adapter = adapter
        self.prefix = prefix
        self.auto_create = os.environ.get("COMPAT_AUTO_CREATE") == "1"

    def topic(self, name):
        return f"{self.prefix}-{name}"

    def create(self, topic, partitions):
        self.adapter.prepare(topic, partitions, {"retention.ms": "-1"})
        until(lambda: topic in self.adapter.topics(), lambda: f"{topic} is not listed")

    def run(self):
        self.admin()
        self.producing()
        self.consuming()
        GroupScenario(self).run()
        step("group-consumer-protocol", self.consumer_protocol)
        TransactionScenario(self).run()
        self.errors()

    # Administration

    def admin(self):
        topic = self.topic("admin")
        client = self.adapter

        def create():
            configs = {"retention.ms": "86400000"}
            try:
                client.create(topic, 3, configs)
            except NotSupported:
                client.prepare(topic, 3, configs)
                raise

        step("create-topic", create)
        step("list-topics", lambda: until(lambda: topic in client.topics(), lambda: "not in the list"))
        step("describe-topic", lambda: same("the number of partitions", 3, client.partitions(topic)))
        step("alter-configs", lambda: client.alter_config(topic, "retention.ms", "7200000"))

        def described():
            until(
                lambda: client.config(topic, "retention.ms") == "7200000",
                lambda: f"retention.ms is {client.config(topic, 'retention.ms')}",
            )

        step("describe-configs", described)

        def more_partitions():
            client.add_partitions(topic, 5)
            until(lambda: client.partitions(topic) == 5, lambda: f"{client.partitions(topic)} partitions")

        step("add-partitions", more_partitions)
        step("delete-records", lambda: self.delete_records(topic))
        step("describe-cluster", lambda: same("the number of brokers", 1, client.brokers()))
        step("describe-log-dirs", lambda: check(topic in client.log_dirs(), "the topic is in no directory"))

        def deleted():
            client.delete_topic(topic)
            until(lambda: topic not in client.topics(), lambda: "still listed")

        step("delete-topic", deleted)

    def delete_records(self, topic):
        client = self.adapter
        client.produce([Record(topic, 0, b"k", b"v%d" % i) for i in range(10)])
        low = client.delete_records(topic, 0, 4)
        same("the low watermark", 4, low)
        try:
            same("the bounds", (4, 10), client.bounds(topic, 0))
        except NotSupported:
            pass

    # Producing

    def producing(self):
        for codec in CODECS:
            step(f"produce-{codec}", lambda codec=codec: self.produce_codec(codec))
        step("acks-0", lambda: self.acks(0))
        step("acks-1", lambda: self.acks(1))
        step("acks-all", lambda: self.acks("all"))
        step("idempotent", self.idempotent)
        step("partitioner", self.partitioner)

    def produce_codec(self, codec):
        topic = self.topic(codec)
        self.create(topic, 1)
        placed = self.adapter.produce(dataset.rows(topic), codec=codec)
        if placed is not None:
            same("the offsets", [(0, i) for i in range(7)], placed)

    def acks(self, level):
        topic = self.topic(f"acks-{level}")
        self.create(topic, 1)
        values = [b"%d" % i for i in range(20)]
        self.adapter.produce([Record(topic, 0, None, value) for value in values], acks=level)
        reader = self.adapter.reader(topic, [0], 0)
        try:
            same("the values", values, [record.value for record in read(reader, 20)])
        finally:
            reader.close()

    def idempotent(self):
        topic = self.topic("idempotent")
        self.create(topic, 1)
        records = [Record(topic, 0, None, b"record %d" % i) for i in range(500)]
        placed = self.adapter.produce(records, idempotent=True, acks="all", small_batches=True)
        if placed is not None:
            same("the offsets", [(0, i) for i in range(500)], placed)

    def partitioner(self):
        topic = self.topic("partitioner")
        self.create(topic, PARTITIONER_PARTITIONS)
        fixture = dataset.partitioner_fixture(PARTITIONER_PARTITIONS)
        self.adapter.produce([Record(topic, None, key, key) for key in fixture])
        reader = self.adapter.reader(topic, range(PARTITIONER_PARTITIONS), 0)
        try:
            found = {record.key: record.partition for record in read(reader, len(fixture))}
        finally:
            reader.close()
        equal = sum(found.get(key) == partition for key, partition in fixture.items())
        if equal == len(fixture):
            return "as Java's murmur2"
        return f"its own: {equal} of {len(fixture)} keys as Java's"

    # Consuming

    def consuming(self):
        step("consume", lambda: [self.verify(self.topic(codec)) for codec in CODECS] and None)
        step("consume-offset", self.consume_offset)
        step("offsets-for-times", self.offsets_for_times)
        step("long-poll", self.long_poll)
        step("incremental-fetch", self.incremental_fetch)

    def verify(self, topic, with_timestamps=None):
        if with_timestamps is None:
            with_timestamps = self.adapter.sets_timestamps
        reader = self.adapter.reader(topic, [0], 0)
        try:
            dataset.compare(topic, read(reader, 7), with_timestamps)
        finally:
            reader.close()

    def consume_offset(self):
        reader = self.adapter.reader(self.topic("none"), [0], 3)
        try:
            same("the first offset", 3, read(reader, 1)[0].offset)
        finally:
            reader.close()

    def offsets_for_times(self):
        topic = self.topic("gzip")
        find = self.adapter.offset_for_time
        if self.adapter.sets_timestamps:
            same("the offset", 2, find(topic, 0, FIRST_TIMESTAMP + 1500))
            same("the offset after the end", None, find(topic, 0, FIRST_TIMESTAMP + 7000))
        else:
            same("the offset", 0, find(topic, 0, FIRST_TIMESTAMP))
        same("the bounds", (0, 7), self.adapter.bounds(topic, 0))

    def long_poll(self):
        topic = self.topic("long-poll")
        self.create(topic, 1)
        reader = self.adapter.reader(topic, [0], 0, wait_ms=10_000)
        try:
            reader.read(0.5)
            start = time.monotonic()
            writer = threading.Thread(
                target=self.adapter.produce, args=([Record(topic, 0, None, b"wake up")],)
            )
            writer.start()
            read(reader, 1)
            took = time.monotonic() - start
            writer.join()
            check(took < 5, f"the record came only after {took:.1f} s")
        finally:
            reader.close()

    def incremental_fetch(self):
        topic = self.topic("session")
        self.create(topic, 4)
        reader = self.adapter.reader(topic, range(4), 0, wait_ms=100)
        try:
            for number in range(12):
                value = b"round %d" % number
                self.adapter.produce([Record(topic, number % 4, None, value)])
                record = read(reader, 1)[0]
                same("the record", (number % 4, value), (record.partition, record.value))
        finally:
            reader.close()

    # Groups by the consumer protocol

    def consumer_protocol(self):
        topic, group = self.topic("consumer-protocol"), self.topic("consumer-protocol-g")
        self.create(topic, GROUP_PARTITIONS)
        members = [self.adapter.consumer_protocol_member(group, topic)]

        def await_sizes(expected):
            def assigned():
                for member in members:
                    member.read(0.1)
                return sizes() == expected

            until(assigned, lambda: f"partitions per member: {sizes()}, expected {expected}")

        def sizes():
            return [len(member.assignment()) for member in members]

        await_sizes([4])
        members.append(self.adapter.consumer_protocol_member(group, topic))
        await_sizes([2, 2])
        members.pop().close()
        await_sizes([4])
        self.adapter.produce([Record(topic, p, None, b"v") for p in range(GROUP_PARTITIONS)])
        read(members[0], GROUP_PARTITIONS)
        members[0].commit()
        committed = [self.adapter.committed(group, topic, p) for p in range(GROUP_PARTITIONS)]
        same("the committed offsets", [1] * GROUP_PARTITIONS, committed)
        members.pop().close()

    # Errors

    def errors(self):
        topic = self.topic("none")
        create, produce = self.adapter.create, self.adapter.produce
        if self.auto_create:
            line("error-unknown-topic", None, "the broker creates topics by itself")
        else:
            absent = [Record(self.topic("absent"), 0, None, b"v")]
            self.fails("error-unknown-topic", "unknown-topic", lambda: produce(absent, short=True))
        big = [Record(topic, 0, None, bytes(2_000_000))]
        self.fails("error-too-large", "too-large", lambda: produce(big, unlimited=True))
        self.fails("error-invalid-topic", "invalid-topic", lambda: create("not a topic!", 1, {}))
        self.fails("error-topic-exists", "topic-exists", lambda: create(topic, 1, {}))
        bad = {"retention.ms": "soon"}
        self.fails("error-invalid-config", "invalid-config", lambda: create(self.topic("bad"), 1, bad))
        step("reset-earliest", lambda: self.reset_earliest(topic))
        step("reset-latest", lambda: self.reset_latest(topic))
        self.fails("reset-none", "out-of-range", lambda: self.reset_none(topic))

    def fails(self, name, kind, call):
        def run():
            try:
                call()
            except NotSupported:
                raise
            except Exception as failure:  # pylint: disable=broad-except
                if self.adapter.is_error(kind, failure):
                    return f"{type(failure).__name__}: {failure}"
                raise
            raise Failed("it succeeded")

        step(name, run)

    def reset_earliest(self, topic):
        reader = self.adapter.reader(topic, [0], 1000)
        try:
            same("the first offset", 0, read(reader, 1)[0].offset)
        finally:
            reader.close()

    def reset_latest(self, topic):
        reader = self.adapter.reader(topic, [0], 1000, reset="latest")
        try:

            def moved():
                same("the records", [], reader.read(0.2))
                return reader.position(0) == 7

            until(moved, lambda: f"the position is {reader.position(0)}")
        finally:
            reader.close()

    def reset_none(self, topic):
        reader = self.adapter.reader(topic, [0], 1000, reset="none")
        try:
            read(reader, 1)
        finally:
            reader.close()


class GroupScenario:
    """A subscribed group of two: joining, leaving, committing, its lag, its end."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.adapter = scenario.adapter
        self.topic = scenario.topic("group")
        self.group = scenario.topic("g")
        self.members = []
        self.seen = set()

    def run(self):
        client = self.adapter
        step("group-join", self.join)
        step("group-leave", self.leave)
        step("group-commit", self.commit)
        step("group-list", lambda: until(lambda: self.group in client.groups(), lambda: "not listed"))
        step("group-describe", lambda: same("the number of members", 1, client.group_members(self.group)))
        step("group-lag", self.lag)
        for member in self.members:
            member.close()
        step("group-reset-offsets", self.reset)

        def deleted():
            client.delete_group(self.group)
            until(lambda: self.group not in client.groups(), lambda: "still listed")

        step("group-delete", deleted)

    def produce(self, per_partition):
        self.adapter.produce(
            [
                Record(self.topic, partition, None, b"record %d" % i)
                for partition in range(GROUP_PARTITIONS)
                for i in range(per_partition)
            ]
        )

    def await_sizes(self, expected):
        def assigned():
            for member in self.members:
                self.read(member)
            return self.sizes() == expected

        until(assigned, lambda: f"partitions per member: {self.sizes()}, expected {expected}")

    def read(self, member):
        self.seen.update((record.partition, record.offset) for record in member.read(0.1))

    def sizes(self):
        return [len(member.assignment()) for member in self.members]

    def join(self):
        self.scenario.create(self.topic, GROUP_PARTITIONS)
        self.produce(10)
        self.members.append(self.adapter.member(self.group, self.topic))
        self.await_sizes([4])
        self.members.append(self.adapter.member(self.group, self.topic))
        self.await_sizes([2, 2])
        union = set(self.members[0].assignment()) | set(self.members[1].assignment())
        same("the partitions assigned", set(range(GROUP_PARTITIONS)), union)

    def leave(self):
        if len(self.members) != 2:
            raise Failed("no second member")
        self.members.pop().close()
        self.await_sizes([4])

    def commit(self):
        if not self.members:
            raise Failed("no member")
        member = self.members[0]
        if not self.adapter.commits_itself:
            self.seen.clear()
            member.rewind()

        def all_read():
            self.read(member)
            return len(self.seen) == 10 * GROUP_PARTITIONS

        until(all_read, lambda: f"{len(self.seen)} records read")
        if not self.adapter.commits_itself:
            member.commit()
        self.members.pop().close()
        self.produce(1)
        self.members.append(self.adapter.member(self.group, self.topic))
        rest = read(self.members[0], GROUP_PARTITIONS)
        same("the offsets after the commit", [10] * GROUP_PARTITIONS, [record.offset for record in rest])

    def lag(self):
        lag = 0
        for partition in range(GROUP_PARTITIONS):
            _, end = self.adapter.bounds(self.topic, partition)
            lag += end - self.adapter.committed(self.group, self.topic, partition)
        same("the lag", GROUP_PARTITIONS, lag)

    def reset(self):
        self.adapter.reset_offset(self.group, self.topic, 1, 3)
        same("the offset", 3, self.adapter.committed(self.group, self.topic, 1))


def main(make_adapter):
    """`run BOOTSTRAP PREFIX` or `verify BOOTSTRAP PREFIX...`."""
    mode, bootstrap, *prefixes = sys.argv[1:]
    adapter = make_adapter(bootstrap)
    for prefix in prefixes:
        scenario = Scenario(adapter, prefix)
        if mode == "run":
            scenario.run()
        else:
            timestamps = "-notime-" not in prefix
            topics = [scenario.topic(codec) for codec in CODECS]
            step(prefix, lambda: [scenario.verify(topic, timestamps) for topic in topics] and None)
    os._exit(0)
