import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.TopicPartition;

/** Every codec, every kind of acknowledgement, the idempotent producer, the default partitioner. */
final class ProduceSteps {
    private static final int PARTITIONS = 7;
    private final Clients clients;

    ProduceSteps(Clients clients) {
        this.clients = clients;
    }

    void run() {
        for (String codec : DataSet.CODECS) {
            Report.step("produce-" + codec, () -> codec(codec));
        }
        String acks = clients.topic("acks");
        for (String level : List.of("0", "1", "all")) {
            Report.step("acks-" + level, () -> acks(acks, level));
        }
        Report.step("idempotent", this::idempotent);
        Report.step("partitioner", this::partitioner);
    }

    private String codec(String codec) throws Exception {
        String topic = clients.topic(codec);
        clients.create(topic, 1);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        DataSet.rows().forEach(row -> records.add(DataSet.record(topic, row)));
        List<RecordMetadata> done = clients.send(Map.of("compression.type", codec), records);
        for (int i = 0; i < done.size(); i++) {
            Report.same("the offset", (long) i, done.get(i).offset());
        }
        return null;
    }

    private String acks(String topic, String level) throws Exception {
        if (level.equals("0")) {
            clients.create(topic, 1);
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        long before = end(partition);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            records.add(new ProducerRecord<>(topic, 0, null, DataSet.bytes(level + "-" + i)));
        }
        clients.send(Map.of("acks", level, "enable.idempotence", false), records);
        Clients.until("20", () -> end(partition) == before + 20, () -> "the log ends at " + end(partition));
        return null;
    }

    private String idempotent() throws Exception {
        String topic = clients.topic("idempotent");
        clients.create(topic, 1);
        Map<String, Object> settings = Map.of("enable.idempotence", true, "acks", "all",
                "max.in.flight.requests.per.connection", 5, "batch.size", 200);
        try (KafkaProducer<byte[], byte[]> producer = clients.producer(settings)) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 500; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, null, DataSet.bytes("record " + i))));
            }
            producer.flush();
            for (int i = 0; i < sent.size(); i++) {
                Report.same("the offset", (long) i, sent.get(i).get().offset());
            }
        }
        return null;
    }

    private String partitioner() throws Exception {
        String topic = clients.topic("partitioner");
        clients.create(topic, PARTITIONS);
        try (KafkaProducer<byte[], byte[]> producer = clients.producer(Map.of())) {
            for (byte[] key : Murmur2Fixture.keys()) {
                RecordMetadata at = producer.send(new ProducerRecord<>(topic, key, DataSet.bytes("v"))).get();
                Report.same("the partition", BuiltInPartitioner.partitionForKey(key, PARTITIONS), at.partition());
            }
        }
        return "as Java's murmur2";
    }

    private long end(TopicPartition partition) {
        return AdminSteps.quietly(() -> Clients.get(clients.admin
                .listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition)).offset());
    }
}
