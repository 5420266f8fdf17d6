"""aiokafka; its event loop runs in a thread of its own, so that the steps stay plain functions."""

import asyncio
import logging
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dataset import Record
from scenario import Adapter, main

WAIT_S = 15
LOOP = asyncio.new_event_loop()


def wait(coroutine, timeout_s=WAIT_S):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(timeout_s + 5)


def raise_code(code, message=""):
    if code:
        raise errors.for_code(code)(message)


class AioKafka(Adapter):
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
        threading.Thread(target=LOOP.run_forever, daemon=True).start()

        async def start():
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            return admin

        self.admin = wait(start())

    def create(self, topic, partitions, configs):
        new = NewTopic(topic, partitions, 1, topic_configs=configs)
        for _, code, message, *_ in wait(self.admin.create_topics([new])).topic_errors:
            raise_code(code, message)

    def topics(self):
        return set(wait(self.admin.list_topics()))

    def partitions(self, topic):
        (found,) = wait(self.admin.describe_topics([topic]))
        raise_code(found["error_code"])
        return len(found["partitions"])

    def delete_topic(self, topic):
        for _, code, *_ in wait(self.admin.delete_topics([topic])).topic_error_codes:
            raise_code(code)

    def alter_config(self, topic, name, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        for response in wait(self.admin.alter_configs([resource])):
            for code, message, *_ in response.resources:
                raise_code(code, message)

    def config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = wait(self.admin.describe_configs([resource]))
        ((code, message, _, _, entries),) = response.resources
        raise_code(code, message)
        return {entry[0]: entry[1] for entry in entries}[name]

    def add_partitions(self, topic, total):
        wait(self.admin.create_partitions({topic: NewPartitions(total)}))

    def delete_records(self, topic, partition, offset):
        at = TopicPartition(topic, partition)
        return wait(self.admin.delete_records({at: RecordsToDelete(offset)}))[at]

    def brokers(self):
        return len(wait(self.admin.describe_cluster())["brokers"])

    def produce(self, records, **settings):
        codec = settings.get("codec", "none")
        config = {
            "compression_type": None if codec == "none" else codec,
            "acks": settings.get("acks", "all"),
            "enable_idempotence": settings.get("idempotent", False),
            "linger_ms": 20,
            "request_timeout_ms": 3000 if settings.get("short") else 15000,
        }
        if settings.get("small_batches"):
            config["max_batch_size"] = 200
        if settings.get("unlimited"):
            config["max_request_size"] = 8_000_000
        return wait(self._produce(records, config))

    async def _produce(self, records, config):
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **config)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp_ms=record.timestamp,
                )
                for record in records
            ]
            done = await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return None if config["acks"] == 0 else [(at.partition, at.offset) for at in done]

    def reader(self, topic, partitions, offset, reset="earliest", wait_ms=500, committed=None):
        async def start():
            level = "read_committed" if committed else "read_uncommitted"
            consumer = self.consumer(
                auto_offset_reset=reset, fetch_max_wait_ms=wait_ms, isolation_level=level
            )
            await consumer.start()
            consumer.assign([TopicPartition(topic, partition) for partition in partitions])
            for partition in partitions:
                consumer.seek(TopicPartition(topic, partition), offset)
            return consumer

        return Reader(wait(start()), topic)

    def consumer(self, *topics, **extra):
        return AIOKafkaConsumer(
            *topics, bootstrap_servers=self.bootstrap, enable_auto_commit=False, **extra
        )

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        reader = self.reader(topic, [partition], 0)
        found = wait(reader.consumer.offsets_for_times({at: timestamp}))[at]
        reader.close()
        return None if found is None or found.offset < 0 else found.offset

    def bounds(self, topic, partition):
        at = TopicPartition(topic, partition)
        reader = self.reader(topic, [partition], 0)
        first = wait(reader.consumer.beginning_offsets([at]))[at]
        end = wait(reader.consumer.end_offsets([at]))[at]
        reader.close()
        return first, end

    def member(self, group, topic):
        async def start():
            consumer = self.consumer(
                topic,
                group_id=group,
                auto_offset_reset="earliest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=500,
            )
            # Starting waits for the first assignment, which needs the other members to be polled.
            task = asyncio.ensure_future(consumer.start())
            return consumer, task

        consumer, task = wait(start())
        return Reader(consumer, topic, task)

    def transactional(self, identity):
        return Transactional(self.bootstrap, identity)

    def groups(self):
        return {group[0] for group in wait(self.admin.list_consumer_groups())}

    def group_members(self, group):
        (response,) = wait(self.admin.describe_consumer_groups([group]))
        code, _, _, _, _, members, *_ = response.groups[0]
        raise_code(code)
        return len(members)

    def committed(self, group, topic, partition):
        at = TopicPartition(topic, partition)
        return wait(self.admin.list_consumer_group_offsets(group, partitions=[at]))[at].offset

    def is_error(self, kind, failure):
        return isinstance(failure, self.ERRORS[kind])


class Reader:
    def __init__(self, consumer, topic, starting=None):
        self.consumer = consumer
        self.topic = topic
        self.starting = starting

    def read(self, timeout_s):
        if self.starting is not None and not self.starting.done():
            return []
        found = wait(self.consumer.getmany(timeout_ms=int(timeout_s * 1000)))
        return [
            Record(
                record.topic,
                record.partition,
                record.key,
                record.value,
                list(record.headers),
                record.timestamp,
                record.offset,
            )
            for records in found.values()
            for record in records
        ]

    def position(self, partition):
        return wait(self.consumer.position(TopicPartition(self.topic, partition)))

    def assignment(self):
        return [part.partition for part in self.consumer.assignment()]

    def rewind(self):
        wait(self.consumer.seek_to_beginning())

    def commit(self):
        wait(self.consumer.commit())

    def close(self):
        wait(self.consumer.stop())


class Transactional:
    def __init__(self, bootstrap, identity):
        async def start():
            producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity)
            await producer.start()
            return producer

        self.producer = wait(start())

    def begin(self):
        wait(self.producer.begin_transaction())

    def send(self, topic, value):
        wait(self.producer.send(topic, value=value, partition=0))

    def offsets(self, group, topic, partition, offset):
        at = TopicPartition(topic, partition)
        wait(self.producer.send_offsets_to_transaction({at: offset}, group))

    def flush(self):
        wait(self.producer.flush())

    def commit(self):
        wait(self.producer.commit_transaction())

    def abort(self):
        wait(self.producer.abort_transaction())

    def close(self):
        wait(self.producer.stop())


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main(AioKafka)
