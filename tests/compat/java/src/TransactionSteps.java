import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

/** Transactions: committed, aborted, with offsets of a group, and two producers with one id. */
final class TransactionSteps {
    private final Clients clients;
    private final String topic;
    private final String group;
    private final TopicPartition partition;

    TransactionSteps(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("txn");
        this.group = clients.topic("txn-g");
        this.partition = new TopicPartition(topic, 0);
    }

    void run() {
        Report.step("txn-produce", this::produce);
        Report.step("txn-abort", this::abort);
        Report.step("txn-offsets", this::offsets);
        Report.step("txn-fence", this::fence);
    }

    private KafkaProducer<byte[], byte[]> producer() {
        KafkaProducer<byte[], byte[]> producer = clients.producer(Map.of("transactional.id", clients.topic("txn-id")));
        producer.initTransactions();
        return producer;
    }

    private String produce() throws Exception {
        clients.create(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.beginTransaction();
            send(producer, "a", "b", "c");
            producer.commitTransaction();
        }
        Report.same("the values", List.of("a", "b", "c"), read("read_committed", 3));
        return null;
    }

    private String abort() throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.beginTransaction();
            send(producer, "never");
            producer.flush();
            producer.abortTransaction();
            producer.beginTransaction();
            send(producer, "open");
            producer.flush();
            // The open transaction bounds what is committed; its end is behind it.
            Report.same("the end of what is committed", 6L, end(IsolationLevel.READ_COMMITTED));
            Report.same("the end", 7L, end(IsolationLevel.READ_UNCOMMITTED));
            producer.commitTransaction();
        }
        Report.same("the committed values", List.of("a", "b", "c", "open"), read("read_committed", 4));
        Report.same("all values", List.of("a", "b", "c", "never", "open"), read("read_uncommitted", 5));
        return null;
    }

    private String offsets() throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.beginTransaction();
            send(producer, "with offsets");
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(3, "m")), new ConsumerGroupMetadata(group));
            Report.same("the offsets before the commit", Map.of(), committed());
            producer.commitTransaction();
            Clients.until("committed", () -> AdminSteps.quietly(this::committed)
                    .equals(Map.of(partition, new OffsetAndMetadata(3, "m"))), () -> "" + AdminSteps.quietly(this::committed));
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(5, "m")), new ConsumerGroupMetadata(group));
            producer.abortTransaction();
        }
        Report.same("the offsets after an abort", Map.of(partition, new OffsetAndMetadata(3, "m")), committed());
        return null;
    }

    private Map<TopicPartition, OffsetAndMetadata> committed() throws Exception {
        var found = Clients.get(clients.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        found.values().removeIf(java.util.Objects::isNull);
        return found.entrySet().stream().collect(java.util.stream.Collectors.toMap(Map.Entry::getKey,
                entry -> new OffsetAndMetadata(entry.getValue().offset(), entry.getValue().metadata())));
    }

    /** The second producer with an id ends the first one, and what that had open. */
    private String fence() throws Exception {
        KafkaProducer<byte[], byte[]> first = producer();
        first.beginTransaction();
        send(first, "fenced");
        first.flush();
        try (KafkaProducer<byte[], byte[]> second = producer()) {
            second.beginTransaction();
            send(second, "last");
            second.commitTransaction();
            try {
                first.commitTransaction();
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                List<String> values = read("read_committed", 6);
                Report.same("the values", List.of("a", "b", "c", "open", "with offsets", "last"), values);
                return expected.getClass().getSimpleName();
            }
        } finally {
            first.close(java.time.Duration.ZERO);
        }
        throw new IllegalStateException("the first producer committed");
    }

    private void send(KafkaProducer<byte[], byte[]> producer, String... values) {
        for (String value : values) {
            producer.send(new ProducerRecord<>(topic, 0, null, DataSet.bytes(value)));
        }
    }

    private long end(IsolationLevel isolation) throws Exception {
        var asked = clients.admin.listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(isolation));
        return Clients.get(asked.partitionResult(partition)).offset();
    }

    /** Reads up to the end, which must be reached; the values. */
    private List<String> read(String isolation, int count) throws Exception {
        long end = end(IsolationLevel.READ_UNCOMMITTED);
        List<String> values = new java.util.ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> reader = clients.reader(topic, 0, Map.of("isolation.level", isolation))) {
            Clients.until("read", () -> {
                reader.poll(java.time.Duration.ofMillis(100)).forEach(r -> values.add(new String(r.value())));
                return reader.position(partition) >= end;
            }, () -> values.size() + " of " + count + " values came, the position is " + reader.position(partition));
        }
        return values;
    }
}
