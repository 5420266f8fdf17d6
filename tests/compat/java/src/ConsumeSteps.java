import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Reading by every position, waiting for records, fetch sessions. */
final class ConsumeSteps {
    private final Clients clients;

    ConsumeSteps(Clients clients) {
        this.clients = clients;
    }

    void run() {
        Report.step("consume", () -> {
            for (String codec : DataSet.CODECS) {
                verify(clients, clients.topic(codec), true);
            }
            return null;
        });
        Report.step("consume-offset", () -> {
            try (var consumer = clients.reader(clients.topic("none"), 3, Map.of())) {
                Report.same("the first offset", 3L, Clients.read(consumer, 1).get(0).offset());
            }
            return null;
        });
        Report.step("offsets-for-times", this::offsetsForTimes);
        Report.step("long-poll", this::longPoll);
        Report.step("incremental-fetch", this::incrementalFetch);
    }

    /** Reads a topic of the data set and compares it. */
    static void verify(Clients clients, String topic, boolean withTimestamps) {
        try (var consumer = clients.reader(topic, 0, Map.of())) {
            consumer.seekToBeginning(consumer.assignment());
            try {
                DataSet.compare(Clients.read(consumer, DataSet.rows().size()), withTimestamps);
            } catch (RuntimeException failure) {
                throw new IllegalStateException(topic, failure);
            }
        }
    }

    private String offsetsForTimes() {
        TopicPartition partition = new TopicPartition(clients.topic("gzip"), 0);
        try (var consumer = clients.reader(partition.topic(), 0, Map.of())) {
            long between = DataSet.FIRST_TIMESTAMP + 1500;
            var found = consumer.offsetsForTimes(Map.of(partition, between)).get(partition);
            Report.same("the offset", 2L, found.offset());
            Report.same("its timestamp", DataSet.FIRST_TIMESTAMP + 2000, found.timestamp());
            var after = consumer.offsetsForTimes(Map.of(partition, DataSet.FIRST_TIMESTAMP + 7000)).get(partition);
            Report.check(after == null, "an offset for a time after the last record: " + after);
            Report.same("the first offset", 0L, consumer.beginningOffsets(List.of(partition)).get(partition));
            Report.same("the end offset", 7L, consumer.endOffsets(List.of(partition)).get(partition));
        }
        return null;
    }

    private String longPoll() throws Exception {
        String topic = clients.topic("long-poll");
        clients.create(topic, 1);
        AtomicReference<Throwable> problem = new AtomicReference<>();
        try (var consumer = clients.reader(topic, 0, Map.of("fetch.max.wait.ms", 10_000, "fetch.min.bytes", 1));
                KafkaProducer<byte[], byte[]> producer = clients.producer(Map.of("linger.ms", 0))) {
            consumer.poll(Duration.ofMillis(500));
            Thread writer = new Thread(() -> {
                try {
                    producer.send(new ProducerRecord<>(topic, 0, null, DataSet.bytes("wake up"))).get();
                } catch (Exception failure) {
                    problem.set(failure);
                }
            });
            long start = System.nanoTime();
            writer.start();
            Clients.read(consumer, 1);
            long tookMs = (System.nanoTime() - start) / 1_000_000;
            writer.join();
            Report.check(problem.get() == null, "the writer failed: " + problem.get());
            Report.check(tookMs < 5000, "the record came only after " + tookMs + " ms");
        }
        return null;
    }

    private String incrementalFetch() throws Exception {
        String topic = clients.topic("session");
        clients.create(topic, 4);
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < 4; p++) {
            all.add(new TopicPartition(topic, p));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = clients.consumer(Map.of("fetch.max.wait.ms", 100));
                KafkaProducer<byte[], byte[]> producer = clients.producer(Map.of("linger.ms", 0))) {
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (int round = 0; round < 12; round++) {
                int partition = round % 4;
                producer.send(new ProducerRecord<>(topic, partition, null, DataSet.bytes("round " + round))).get();
                ConsumerRecord<byte[], byte[]> record = Clients.read(consumer, 1).get(0);
                Report.same("the partition", partition, record.partition());
                Report.same("the value", "round " + round, new String(record.value()));
            }
            // Forgotten partitions leave the session, others stay in it.
            consumer.assign(all.subList(2, 4));
            producer.send(new ProducerRecord<>(topic, 0, null, DataSet.bytes("unseen"))).get();
            producer.send(new ProducerRecord<>(topic, 3, null, DataSet.bytes("seen"))).get();
            Report.same("the value", "seen", new String(Clients.read(consumer, 1).get(0).value()));
        }
        return null;
    }
}
