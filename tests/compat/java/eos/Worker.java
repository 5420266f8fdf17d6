import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Supplier;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the workers share: the arguments, the clients' settings, transactions that go on through crashes. */
final class Worker {
    /** The exit codes that the runner knows. */
    static final int FENCED = 3;
    static final int BROKEN = 4;
    /** Values of a process are those from here times its number on. */
    private static final long VALUES = 1_000_000;
    /** How long a call is repeated while the broker is away. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    final String bootstrap;
    final String prefix;
    final String id;
    final Random random;
    final History history;
    final String protocol;
    volatile boolean stopped;
    private long value;

    /** MODE BOOTSTRAP PREFIX ID PROCESS SEED FILE PROTOCOL. */
    Worker(String[] arguments) throws Exception {
        this.bootstrap = arguments[1];
        this.prefix = arguments[2];
        this.id = arguments[3];
        int process = Integer.parseInt(arguments[4]);
        this.random = new Random(Long.parseLong(arguments[5]));
        this.history = new History(Path.of(arguments[6]), process);
        this.protocol = arguments[7];
        this.value = process * VALUES;
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try {
                main.join(PATIENCE.toMillis());
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
    }

    /** A value that nobody sent before. */
    synchronized long value() {
        return ++value;
    }

    KafkaProducer<String, String> producer(Map<String, Object> extra) {
        Map<String, Object> all = new HashMap<>(extra);
        all.put("bootstrap.servers", bootstrap);
        all.put("reconnect.backoff.max.ms", 500);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    KafkaProducer<String, String> transactional() {
        KafkaProducer<String, String> producer = producer(Map.of("transactional.id", prefix + "-" + id,
                "transaction.timeout.ms", 10_000));
        patient(() -> {
            producer.initTransactions();
            return null;
        });
        return producer;
    }

    KafkaConsumer<String, String> consumer(String group, String isolation, Map<String, Object> extra) {
        Map<String, Object> all = new HashMap<>(extra);
        all.put("bootstrap.servers", bootstrap);
        all.put("group.id", group);
        all.put("isolation.level", isolation);
        all.put("enable.auto.commit", false);
        all.put("auto.offset.reset", "earliest");
        all.put("max.poll.records", 20);
        all.put("reconnect.backoff.max.ms", 500);
        all.put("group.protocol", protocol);
        if (protocol.equals("classic")) {
            all.put("session.timeout.ms", 6000);
            all.put("heartbeat.interval.ms", 500);
            all.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        }
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Repeats what may fail while the broker is away. */
    static <T> T patient(Supplier<T> call) {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (true) {
            try {
                return call.get();
            } catch (RetriableException failure) {
                if (System.nanoTime() > end) {
                    throw failure;
                }
            }
        }
    }

    /** Sends a record; its line tells what became of it. */
    void send(KafkaProducer<String, String> producer, ProducerRecord<String, String> record, String operation) {
        history.invoke(operation);
        producer.send(record, (metadata, failure) -> {
            if (failure == null) {
                history.ok(operation + ",\"offset\":" + metadata.offset());
            } else {
                history.info(operation);
            }
        });
    }

    void begin(KafkaProducer<String, String> producer) {
        history.invoke("\"f\":\"begin\"");
        producer.beginTransaction();
        history.ok("\"f\":\"begin\"");
    }

    /** Commits; on a timeout again, until it is known. */
    void commit(KafkaProducer<String, String> producer) {
        history.invoke("\"f\":\"commit\"");
        try {
            patient(() -> {
                producer.commitTransaction();
                return null;
            });
        } catch (RuntimeException failure) {
            history.info("\"f\":\"commit\"");
            throw failure;
        }
        history.ok("\"f\":\"commit\"");
    }

    void abort(KafkaProducer<String, String> producer) {
        history.invoke("\"f\":\"abort\"");
        try {
            patient(() -> {
                producer.abortTransaction();
                return null;
            });
        } catch (RuntimeException failure) {
            history.info("\"f\":\"abort\"");
            throw failure;
        }
        history.ok("\"f\":\"abort\"");
    }

    void sendOffsets(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer, String group,
            Map<TopicPartition, OffsetAndMetadata> offsets) {
        String operation = History.offsets(group, offsets);
        history.invoke(operation);
        try {
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        } catch (RuntimeException failure) {
            history.info(operation);
            throw failure;
        }
        history.ok(operation);
    }

    /** Goes back to what is committed: what was read since then comes again. */
    void rewind(KafkaConsumer<String, String> consumer) {
        Set<TopicPartition> assigned = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> committed = patient(() -> consumer.committed(assigned));
        for (TopicPartition partition : assigned) {
            OffsetAndMetadata at = committed.get(partition);
            long offset = at == null ? 0 : at.offset();
            consumer.seek(partition, offset);
            history.ok(History.seek(partition, offset));
        }
    }

    /** Whether another instance has taken over, which ends this one. */
    static boolean isFenced(Throwable failure) {
        for (Throwable at = failure; at != null; at = at.getCause()) {
            if (at instanceof ProducerFencedException || at instanceof FencedInstanceIdException
                    || at instanceof InvalidProducerEpochException) {
                return true;
            }
        }
        return false;
    }

    /** Whether an aborted transaction and another try are the answer. */
    static boolean isPassing(RuntimeException failure) {
        return failure instanceof KafkaException && !(failure instanceof WakeupException) && !isFenced(failure);
    }
}
