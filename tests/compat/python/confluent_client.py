"""confluent-kafka, the Python face of librdkafka."""

import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from dataset import Record
from report import Failed
from scenario import Adapter, main

WAIT_S = 15


def only(futures):
    """The result of a call about one thing."""
    (future,) = futures.values()
    return future.result(timeout=WAIT_S)


class Confluent(Adapter):
    ERRORS = {
        "unknown-topic": {
            KafkaError._UNKNOWN_TOPIC,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._UNKNOWN_PARTITION,
            KafkaError._MSG_TIMED_OUT,
        },
        "too-large": {KafkaError.MSG_SIZE_TOO_LARGE},
        "invalid-topic": {KafkaError.TOPIC_EXCEPTION},
        "topic-exists": {KafkaError.TOPIC_ALREADY_EXISTS},
        "invalid-config": {KafkaError.INVALID_CONFIG},
        "out-of-range": {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE},
    }

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})

    def create(self, topic, partitions, configs):
        only(self.admin.create_topics([NewTopic(topic, partitions, 1, config=configs)]))

    def topics(self):
        return set(self.admin.list_topics(timeout=WAIT_S).topics)

    def partitions(self, topic):
        found = self.admin.list_topics(topic, timeout=WAIT_S).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        return len(found.partitions)

    def delete_topic(self, topic):
        only(self.admin.delete_topics([topic]))

    def alter_config(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        only(self.admin.incremental_alter_configs([resource]))

    def config(self, topic, name):
        return only(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[name].value

    def add_partitions(self, topic, total):
        only(self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete_records(self, topic, partition, offset):
        return only(self.admin.delete_records([TopicPartition(topic, partition, offset)])).low_watermark

    def brokers(self):
        return len(self.admin.describe_cluster().result(timeout=WAIT_S).nodes)

    def produce(self, records, **settings):
        short = settings.get("short")
        config = {
            "bootstrap.servers": self.bootstrap,
            "compression.type": settings.get("codec", "none"),
            "acks": settings.get("acks", "all"),
            "enable.idempotence": settings.get("idempotent", False),
            "linger.ms": 20,
            "message.timeout.ms": 3000 if short else 15000,
            "log_level": 3,
        }
        if settings.get("small_batches"):
            config["batch.num.messages"] = 10
        if settings.get("unlimited"):
            config["message.max.bytes"] = 8_000_000
        producer = Producer(config)
        done = [None] * len(records)
        failures = []

        def delivered(at, error, message):
            if error:
                failures.append(error)
            else:
                done[at] = (message.partition(), message.offset())

        for at, record in enumerate(records):
            partition = {} if record.partition is None else {"partition": record.partition}
            producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=record.headers or None,
                timestamp=record.timestamp or int(time.time() * 1000),
                on_delivery=lambda error, message, at=at: delivered(at, error, message),
                **partition,
            )
        left = producer.flush(WAIT_S)
        if failures:
            raise KafkaException(failures[0])
        if left:
            raise Failed(f"{left} records were not acknowledged")
        return done

    def reader(self, topic, partitions, offset, reset="earliest", wait_ms=500, committed=None):
        consumer = self.consumer(
            {
                "group.id": "unused",
                "auto.offset.reset": "error" if reset == "none" else reset,
                "fetch.wait.max.ms": wait_ms,
                "isolation.level": "read_uncommitted" if committed is False else "read_committed",
            }
        )
        consumer.assign([TopicPartition(topic, partition, offset) for partition in partitions])
        return Reader(consumer, topic)

    def consumer(self, extra):
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.auto.commit": False,
                "socket.timeout.ms": 20_000,
                "log_level": 3,
                **extra,
            }
        )

    def offset_for_time(self, topic, partition, timestamp):
        reader = self.reader(topic, [partition], 0)
        (found,) = reader.consumer.offsets_for_times(
            [TopicPartition(topic, partition, timestamp)], timeout=WAIT_S
        )
        reader.close()
        if found.error:
            raise KafkaException(found.error)
        return None if found.offset < 0 else found.offset

    def bounds(self, topic, partition):
        reader = self.reader(topic, [partition], 0)
        bounds = reader.consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=WAIT_S)
        reader.close()
        return bounds

    def member(self, group, topic):
        consumer = self.consumer(
            {
                "group.id": group,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 500,
            }
        )
        consumer.subscribe([topic])
        return Reader(consumer, topic)

    def consumer_protocol_member(self, group, topic):
        settings = {"group.id": group, "auto.offset.reset": "earliest", "group.protocol": "consumer"}
        consumer = self.consumer(settings)
        consumer.subscribe([topic])
        return Reader(consumer, topic)

    def transactional(self, identity):
        return Transactional(self, identity)

    def groups(self):
        found = self.admin.list_consumer_groups().result(timeout=WAIT_S)
        if found.errors:
            raise KafkaException(found.errors[0])
        return {group.group_id for group in found.valid}

    def group_members(self, group):
        return len(only(self.admin.describe_consumer_groups([group])).members)

    def committed(self, group, topic, partition):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
        found = only(self.admin.list_consumer_group_offsets([wanted]))
        return found.topic_partitions[0].offset

    def reset_offset(self, group, topic, partition, offset):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        only(self.admin.alter_consumer_group_offsets([wanted]))

    def delete_group(self, group):
        only(self.admin.delete_consumer_groups([group]))

    def is_error(self, kind, failure):
        return isinstance(failure, KafkaException) and failure.args[0].code() in self.ERRORS[kind]


class Reader:
    def __init__(self, consumer, topic):
        self.consumer = consumer
        self.topic = topic

    def read(self, timeout_s):
        found = []
        message = self.consumer.poll(timeout_s)
        while message is not None:
            if message.error():
                raise KafkaException(message.error())
            found.append(
                Record(
                    message.topic(),
                    message.partition(),
                    message.key(),
                    message.value(),
                    message.headers() or [],
                    message.timestamp()[1],
                    message.offset(),
                )
            )
            message = self.consumer.poll(0)
        return found

    def position(self, partition):
        """librdkafka knows a position only after a record: the reset shows in what it has cached."""
        (at,) = self.consumer.position([TopicPartition(self.topic, partition)])
        if at.offset >= 0:
            return at.offset
        return self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)[1]

    def assignment(self):
        return [part.partition for part in self.consumer.assignment()]

    def rewind(self):
        for part in self.consumer.assignment():
            self.consumer.seek(TopicPartition(part.topic, part.partition, 0))

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Transactional:
    def __init__(self, client, identity):
        self.client = client
        settings = {"bootstrap.servers": client.bootstrap, "transactional.id": identity, "log_level": 3}
        self.producer = Producer(settings)
        self.producer.init_transactions(WAIT_S)

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, value):
        self.producer.produce(topic, value=value, partition=0)

    def offsets(self, group, topic, partition, offset):
        consumer = self.client.consumer({"group.id": group})
        metadata = consumer.consumer_group_metadata()
        at = TopicPartition(topic, partition, offset)
        self.producer.send_offsets_to_transaction([at], metadata, WAIT_S)
        consumer.close()

    def flush(self):
        self.producer.flush(WAIT_S)

    def commit(self):
        self.producer.commit_transaction(WAIT_S)

    def abort(self):
        self.producer.abort_transaction(WAIT_S)

    def close(self):
        self.flush()


if __name__ == "__main__":
    main(Confluent)
