import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Clients with the settings that all steps share, and small helpers around them. */
final class Clients {
    static final Duration BOUND = Duration.ofSeconds(20);

    final String bootstrap;
    final String prefix;
    final Admin admin;

    Clients(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(settings(Map.of("default.api.timeout.ms", 20_000, "request.timeout.ms", 10_000)));
    }

    String topic(String name) {
        return prefix + "-" + name;
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, Object> extra) {
        Map<String, Object> all = settings(Map.of("delivery.timeout.ms", 20_000, "request.timeout.ms", 10_000,
                "linger.ms", 20, "max.block.ms", 10_000));
        all.putAll(extra);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> extra) {
        Map<String, Object> all = settings(Map.of("enable.auto.commit", false, "auto.offset.reset", "earliest",
                "default.api.timeout.ms", 15_000));
        all.putAll(extra);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A consumer of one partition that starts at an offset. */
    KafkaConsumer<byte[], byte[]> reader(String topic, long offset, Map<String, Object> extra) {
        KafkaConsumer<byte[], byte[]> consumer = consumer(extra);
        TopicPartition partition = new TopicPartition(topic, 0);
        consumer.assign(List.of(partition));
        consumer.seek(partition, offset);
        return consumer;
    }

    void create(String topic, int partitions) throws Exception {
        create(topic, partitions, Map.of("retention.ms", "-1"));
    }

    void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        NewTopic wanted = new NewTopic(topic, partitions, (short) 1).configs(configs);
        get(admin.createTopics(List.of(wanted)).all());
    }

    /** Sends records and waits for all acknowledgements. */
    List<RecordMetadata> send(Map<String, Object> extra, List<ProducerRecord<byte[], byte[]>> records)
            throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(extra)) {
            List<java.util.concurrent.Future<RecordMetadata>> waiting = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records) {
                waiting.add(producer.send(record));
            }
            producer.flush();
            List<RecordMetadata> done = new ArrayList<>();
            for (java.util.concurrent.Future<RecordMetadata> future : waiting) {
                done.add(unwrap(() -> future.get(BOUND.toSeconds(), TimeUnit.SECONDS)));
            }
            return done;
        }
    }

    /** Polls until that many records have come. */
    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        until("only " + count + " records", () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
            return found.size() >= count;
        }, () -> found.size() + " of " + count + " records came");
        return found;
    }

    static void until(String what, BooleanSupplier done, java.util.function.Supplier<String> state) {
        long end = System.nanoTime() + BOUND.toNanos();
        while (!done.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("after " + BOUND.toSeconds() + " s: " + state.get());
            }
        }
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return unwrap(() -> future.get(BOUND.toSeconds(), TimeUnit.SECONDS));
    }

    /** The error that the call is expected to end with; anything else fails the step. */
    static String fails(Class<? extends Throwable> expected, Report.Step call) {
        try {
            call.run();
        } catch (Throwable failure) {
            if (expected.isInstance(failure)) {
                return failure.getClass().getSimpleName() + ": " + failure.getMessage();
            }
            throw new IllegalStateException("expected " + expected.getSimpleName(), failure);
        }
        throw new IllegalStateException("expected " + expected.getSimpleName() + ", but it succeeded");
    }

    interface Call<T> {
        T run() throws Exception;
    }

    private static <T> T unwrap(Call<T> call) throws Exception {
        try {
            return call.run();
        } catch (ExecutionException wrapped) {
            if (wrapped.getCause() instanceof Exception cause) {
                throw cause;
            }
            throw wrapped;
        }
    }

    private Map<String, Object> settings(Map<String, Object> extra) {
        Map<String, Object> all = new HashMap<>(extra);
        all.put("bootstrap.servers", bootstrap);
        return all;
    }
}
