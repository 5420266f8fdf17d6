"""kafka-python."""

import logging

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from dataset import Record
from scenario import Adapter, main

WAIT_S = 15


class KafkaPython(Adapter):
    ERRORS = {
        "unknown-topic": (errors.KafkaTimeoutError, errors.UnknownTopicOrPartitionError),
        "too-large": errors.MessageSizeTooLargeError,
        "invalid-topic": errors.InvalidTopicError,
        "topic-exists": errors.TopicAlreadyExistsError,
        "invalid-config": errors.InvalidConfigurationError,
        "out-of-range": errors.OffsetOutOfRangeError,
    }

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def create(self, topic, partitions, configs):
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        self.admin.create_topics({topic: options})

    def topics(self):
        return set(self.admin.list_topics())

    def partitions(self, topic):
        (found,) = self.admin.describe_topics([topic])
        return len(found["partitions"])

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def alter_config(self, topic, name, value):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])

    def config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, [name])
        found = self.admin.describe_configs([resource], config_filter="all")
        return found["topic"][topic][name]["value"]

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def delete_records(self, topic, partition, offset):
        at = TopicPartition(topic, partition)
        return self.admin.delete_records({at: offset})[at]["low_watermark"]

    def brokers(self):
        return len(self.admin.describe_cluster()["brokers"])

    def log_dirs(self):
        return {
            topic["name"]
            for broker in self.admin.describe_log_dirs()
            for directory in broker["log_dirs"]
            for topic in directory["topics"]
        }

    def produce(self, records, **settings):
        codec = settings.get("codec", "none")
        acks = settings.get("acks", "all")
        config = {
            "compression_type": None if codec == "none" else codec,
            "acks": acks,
            "enable_idempotence": settings.get("idempotent", False),
            "linger_ms": 20,
            "max_block_ms": 3000 if settings.get("short") else 15000,
        }
        if settings.get("small_batches"):
            config["batch_size"] = 200
        if settings.get("unlimited"):
            config["max_request_size"] = 8_000_000
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, **config)
        try:
            sent = [
                producer.send(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp_ms=record.timestamp,
                )
                for record in records
            ]
            producer.flush(WAIT_S)
            done = [future.get(timeout=WAIT_S) for future in sent]
        finally:
            producer.close(5)
        return None if acks == 0 else [(at.partition, at.offset) for at in done]

    def reader(self, topic, partitions, offset, reset="earliest", wait_ms=500, committed=None):
        level = "read_committed" if committed else "read_uncommitted"
        consumer = self.consumer(
            auto_offset_reset=reset, fetch_max_wait_ms=wait_ms, isolation_level=level
        )
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        for partition in partitions:
            consumer.seek(TopicPartition(topic, partition), offset)
        return Reader(consumer, topic)

    def consumer(self, *topics, **extra):
        return KafkaConsumer(
            *topics, bootstrap_servers=self.bootstrap, enable_auto_commit=False, **extra
        )

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        reader = self.reader(topic, [partition], 0)
        found = reader.consumer.offsets_for_times({at: timestamp})[at]
        reader.close()
        return None if found is None or found.offset < 0 else found.offset

    def bounds(self, topic, partition):
        at = TopicPartition(topic, partition)
        reader = self.reader(topic, [partition], 0)
        bounds = (reader.consumer.beginning_offsets([at])[at], reader.consumer.end_offsets([at])[at])
        reader.close()
        return bounds

    def member(self, group, topic):
        consumer = self.consumer(
            group_id=group,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
        )
        # Otherwise it joins before it knows the partitions, and again when it does; and a join of that
        # second kind is lost if the time of a poll ends during it (seen in 3.0.12: the assignment is never
        # taken up, and no heartbeat is sent any more).
        consumer.partitions_for_topic(topic)
        consumer.subscribe([topic])
        return Reader(consumer, topic)

    def transactional(self, identity):
        return Transactional(self.bootstrap, identity)

    def groups(self):
        return {group["group_id"] for group in self.admin.list_groups()}

    def group_members(self, group):
        return len(self.admin.describe_groups([group])[group]["members"])

    def committed(self, group, topic, partition):
        at = TopicPartition(topic, partition)
        return self.admin.list_group_offsets({group: [at]})[group][at].offset

    def reset_offset(self, group, topic, partition, offset):
        at = TopicPartition(topic, partition)
        result = self.admin.alter_group_offsets(group, {at: OffsetAndMetadata(offset, "", -1)})
        if result[at] is not errors.NoError:
            raise result[at]()

    def delete_group(self, group):
        for error in self.admin.delete_groups([group]).values():
            if error not in (errors.NoError, "OK"):
                raise RuntimeError(error)

    def is_error(self, kind, failure):
        return isinstance(failure, self.ERRORS[kind])


class Reader:
    def __init__(self, consumer, topic):
        self.consumer = consumer
        self.topic = topic

    def read(self, timeout_s):
        found = self.consumer.poll(timeout_ms=int(timeout_s * 1000))
        return [
            Record(
                record.topic,
                record.partition,
                record.key,
                record.value,
                [tuple(header) for header in record.headers],
                record.timestamp,
                record.offset,
            )
            for records in found.values()
            for record in records
        ]

    def position(self, partition):
        return self.consumer.position(TopicPartition(self.topic, partition), timeout_ms=5000)

    def assignment(self):
        return [part.partition for part in self.consumer.assignment()]

    def rewind(self):
        self.consumer.seek_to_beginning()

    def commit(self):
        self.consumer.commit()

    def close(self):
        self.consumer.close(autocommit=False)


class Transactional:
    def __init__(self, bootstrap, identity):
        settings = {"transactional_id": identity, "acks": "all", "max_block_ms": WAIT_S * 1000}
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, **settings)
        self.producer.init_transactions()

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, value):
        self.producer.send(topic, value=value, partition=0)

    def offsets(self, group, topic, partition, offset):
        at = TopicPartition(topic, partition)
        self.producer.send_offsets_to_transaction({at: OffsetAndMetadata(offset, "", -1)}, group)

    def flush(self):
        self.producer.flush(WAIT_S)

    def commit(self):
        self.producer.commit_transaction()

    def abort(self):
        self.producer.abort_transaction()

    def close(self):
        self.producer.close(5)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main(KafkaPython)
