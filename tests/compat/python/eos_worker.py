"""confluent-kafka's part of `cargo xtask eos`: `transform|mix BOOTSTRAP PREFIX ID PROCESS SEED FILE PROTOCOL`.

transform consumes, transforms and produces in transactions: one output for each input, in the partition of the
same number, whose key names the input; every tenth transaction is aborted on purpose. mix does sends and polls
at random, in and outside of transactions, assigned and subscribed. Both run until SIGTERM; one that was fenced
ends with 3, one that cannot go on with 4."""

import os
import random
import signal
import sys
import threading
import time
import traceback

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from eos_history import History, log_of, now

FENCED, BROKEN = 3, 4
PATIENCE_S = 60
STUCK_S = 25
MOST_POLLED = 20
MIX_PARTITIONS = 4

FENCING = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}


class Worker:
    def __init__(self, bootstrap, prefix, identity, process, seed, path, protocol):
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.identity = f"{prefix}-{identity}"
        self.random = random.Random(int(seed))
        self.history = History(path, int(process))
        self.protocol = protocol
        self.stopped = False
        self.idle_s = 0
        threading.Thread(target=self.watch, daemon=True).start()
        # An error that the library cannot go on from; not every call would tell.
        self.fatal = None
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def stop(self, *_):
        self.stopped = True

    def watch(self):
        """Ends a worker that a call of the library does not come back to."""
        while self.idle_s < STUCK_S:
            # Counted, not measured: a worker that was stopped for a while is not stuck.
            time.sleep(1)
            self.idle_s += 1
        print("no call came back", file=sys.stderr, flush=True)
        os._exit(BROKEN)

    def noticed(self, error):
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.fatal = error

    def settings(self, extra):
        return {
            "error_cb": self.noticed,
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.max.ms": 500,
            "log_level": 3,
            **extra,
        }

    def transactional(self):
        producer = Producer(
            self.settings({"transactional.id": self.identity, "transaction.timeout.ms": 10_000})
        )
        patient(lambda: producer.init_transactions(10))
        return producer

    def consumer(self, group, isolation, extra):
        settings = {
            "group.id": group,
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "group.protocol": self.protocol,
            **extra,
        }
        if self.protocol == "classic":
            settings["session.timeout.ms"] = 6000
            settings["heartbeat.interval.ms"] = 500
            settings["partition.assignment.strategy"] = "range"
        return Consumer(self.settings(settings))

    def send(self, producer, topic, partition, key, **source):
        value = self.history.value()
        fields = {"log": log_of(topic, partition), "value": value}
        self.history.invoke("send", **fields, **source)

        def delivered(error, message):
            if error:
                self.history.info("send", **fields)
            else:
                self.history.ok("send", offset=message.offset(), **fields)

        producer.produce(topic, partition=partition, key=key, value=str(value), on_delivery=delivered)

    def begin(self, producer):
        self.idle_s = 0
        self.history.invoke("begin")
        producer.begin_transaction()
        self.history.ok("begin")

    def end(self, operation, call):
        """Commits or aborts; on a timeout again, until it is known."""
        self.history.invoke(operation)
        try:
            patient(call)
        except BaseException:
            self.history.info(operation)
            raise
        self.history.ok(operation)

    def send_offsets(self, producer, consumer, group, offsets):
        found = {log_of(at.topic, at.partition): at.offset for at in offsets}
        self.history.invoke("commit_offsets", group=group, offsets=found)
        try:
            # Not again after a timeout: librdkafka does not come back from the second call.
            producer.send_offsets_to_transaction(
                offsets, consumer.consumer_group_metadata(), PATIENCE_S
            )
        except BaseException:
            self.history.info("commit_offsets", group=group, offsets=found)
            raise
        self.history.ok("commit_offsets", group=group, offsets=found)

    def transaction(self, producer, body, commit):
        """Whether it was committed. What asks for an abort gets one, what asks for an end is raised."""
        self.begin(producer)
        try:
            body()
            # An abort that overtakes the first record of its transaction is a fatal error to librdkafka.
            producer.flush(PATIENCE_S)
            if commit:
                self.end("commit", lambda: producer.commit_transaction(10))
                return True
        except KafkaException as failure:
            error = failure.args[0]
            if error.fatal() or error.code() in FENCING:
                raise
            print(f"aborted: {error}", file=sys.stderr, flush=True)
        self.end("abort", lambda: producer.abort_transaction(10))
        # Tells what became of the records that were not sent any more.
        producer.poll(0)
        return False


def patient(call):
    """Repeats what may fail while the broker is away."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except KafkaException as failure:
            if not failure.args[0].retriable() or time.monotonic() > end:
                raise


class Batches:
    """Messages by the batch. A rebalance takes away what was not handled yet: it would come again."""

    def __init__(self, worker, consumer, isolation):
        self.worker = worker
        self.consumer = consumer
        self.isolation = isolation
        self.began = 0
        self.messages = []

    def subscribe(self, topic):
        self.consumer.subscribe(
            [topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked
        )

    def assigned(self, consumer, partitions):
        self.forget()
        logs = {log_of(at.topic, at.partition) for at in [*consumer.assignment(), *partitions]}
        self.worker.history.ok("rebalance", logs=sorted(logs))

    def revoked(self, *_):
        self.forget()

    def forget(self):
        self.worker.history.poll(self.began, self.isolation, self.messages)
        self.messages = []

    def poll(self, timeout_s):
        self.worker.idle_s = 0
        self.began, self.messages = now(), []
        message = self.consumer.poll(timeout_s)
        while message is not None:
            if message.error() is None:
                self.messages.append(message)
            else:
                self.worker.noticed(message.error())
            if len(self.messages) == MOST_POLLED:
                break
            message = self.consumer.poll(0)
        if self.worker.fatal:
            raise KafkaException(self.worker.fatal)
        messages = self.messages
        self.forget()
        return messages


def behind(messages):
    """The offsets to go on at."""
    return [
        TopicPartition(topic, partition, offset)
        for (topic, partition), offset in {
            (message.topic(), message.partition()): message.offset() + 1 for message in messages
        }.items()
    ]


def rewind(worker, consumer):
    """Goes back to what is committed: what was read since then comes again."""
    assigned = consumer.assignment()
    if not assigned:
        return
    for at in patient(lambda: consumer.committed(assigned, timeout=10)):
        offset = max(at.offset, 0)
        patient(lambda: consumer.seek(TopicPartition(at.topic, at.partition, offset)))
        worker.history.ok("seek", log=log_of(at.topic, at.partition), offset=offset)


def transform(worker):
    group, output = f"{worker.prefix}-confluent", f"{worker.prefix}-out-confluent"
    producer = worker.transactional()
    # A static member of the consumer protocol is not replaced before its session is over.
    static = {"group.instance.id": worker.identity} if worker.protocol == "classic" else {}
    consumer = worker.consumer(group, "read_committed", static)
    batches = Batches(worker, consumer, "read_committed")
    batches.subscribe(f"{worker.prefix}-in")
    while not worker.stopped:
        messages = batches.poll(0.1)
        producer.poll(0)
        if not messages:
            continue

        def body():
            for message in messages:
                at = log_of(message.topic(), message.partition())
                key = f"{message.partition()}:{message.offset()}:{message.value().decode()}"
                source = [at, message.offset()]
                worker.send(producer, output, message.partition(), key, source=source)
            worker.send_offsets(producer, consumer, group, behind(messages))

        if not worker.transaction(producer, body, worker.random.randrange(10) > 0):
            rewind(worker, consumer)
    consumer.close()


class Mix:
    def __init__(self, worker):
        self.worker = worker
        self.topic = f"{worker.prefix}-mix"
        self.group = f"{worker.prefix}-mixers"
        self.isolation = worker.random.choice(["read_committed", "read_uncommitted"])
        self.transactional = worker.transactional()
        self.plain = Producer(worker.settings({"enable.idempotence": True, "linger.ms": 0}))
        self.subscribed = False
        self.next = {}
        self.begin_anew()

    def begin_anew(self):
        """A consumer goes from assigned to subscribed, and back, as a new one: librdkafka may refuse it else."""
        self.consumer = self.worker.consumer(self.group, self.isolation, {})
        self.batches = Batches(self.worker, self.consumer, self.isolation)
        self.next.clear()

    def run(self):
        self.subscribe()
        while not self.worker.stopped:
            choice = self.worker.random.randrange(100)
            if choice < 5:
                self.subscribe()
            elif choice < 10:
                self.assign()
            elif choice < 25:
                self.send(self.plain)
                self.plain.flush()
            elif choice < 40:
                self.poll()
            else:
                self.worker.transaction(
                    self.transactional, self.mixed, self.worker.random.randrange(100) < 85
                )
        self.consumer.close()

    def mixed(self):
        read = []
        for _ in range(self.worker.random.randint(1, 4)):
            if self.worker.random.random() < 0.5:
                self.send(self.transactional)
            else:
                read += self.poll()
        if self.subscribed and read:
            self.worker.send_offsets(self.transactional, self.consumer, self.group, behind(read))

    def send(self, producer):
        self.worker.send(producer, self.topic, self.worker.random.randrange(MIX_PARTITIONS), None)

    def poll(self):
        messages = self.batches.poll(0.05)
        for message in messages:
            self.next[message.partition()] = message.offset() + 1
        return messages

    def subscribe(self):
        if self.subscribed:
            self.consumer.unsubscribe()
        else:
            self.consumer.close()
            self.begin_anew()
        self.worker.history.ok("subscribe", logs=[self.topic])
        self.batches.subscribe(self.topic)
        self.subscribed = True

    def assign(self):
        """Some partitions; each goes on where it was, or begins at the first record."""
        if self.subscribed:
            self.consumer.unsubscribe()
            self.consumer.close()
            self.begin_anew()
        self.subscribed = False
        always = self.worker.random.randrange(MIX_PARTITIONS)
        chosen = [p for p in range(MIX_PARTITIONS) if p == always or self.worker.random.random() < 0.5]
        self.next = {p: self.next.get(p, 0) for p in chosen}
        self.consumer.assign([TopicPartition(self.topic, p, self.next[p]) for p in chosen])
        self.worker.history.ok("assign", logs=[log_of(self.topic, p) for p in chosen])
        for p in chosen:
            self.worker.history.ok("seek", log=log_of(self.topic, p), offset=self.next[p])


def main():
    mode, *arguments = sys.argv[1:]
    worker = Worker(*arguments)
    try:
        if mode == "transform":
            transform(worker)
        else:
            Mix(worker).run()
    except KafkaException as failure:
        traceback.print_exc()
        sys.exit(FENCED if failure.args[0].code() in FENCING else BROKEN)


if __name__ == "__main__":
    main()
