import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * Consumes, transforms and produces in transactions: one output for each input, in the partition of the
 * same number, whose key names the input; every tenth transaction is aborted on purpose.
 */
final class Transform {
    private final Worker worker;
    private final String group;
    private final String output;

    Transform(Worker worker) {
        this.worker = worker;
        this.group = worker.prefix + "-java";
        this.output = worker.prefix + "-out-java";
    }

    void run() {
        // A static member of the consumer protocol is not replaced before its session is over.
        Map<String, Object> instance = worker.protocol.equals("classic")
                ? Map.of("group.instance.id", worker.prefix + "-" + worker.id) : Map.of();
        KafkaProducer<String, String> producer = worker.transactional();
        KafkaConsumer<String, String> consumer = worker.consumer(group, "read_committed", instance);
        consumer.subscribe(List.of(worker.prefix + "-in"), new Rebalances(consumer));
        while (!worker.stopped) {
            long began = History.now();
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
            worker.history.poll(began, "read_committed", records);
            if (!records.isEmpty()) {
                transact(producer, consumer, records);
            }
        }
        producer.close(Duration.ofSeconds(10));
        consumer.close(Duration.ofSeconds(10));
    }

    private void transact(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer,
            ConsumerRecords<String, String> records) {
        worker.begin(producer);
        try {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (ConsumerRecord<String, String> record : records) {
                long value = worker.value();
                String key = record.partition() + ":" + record.offset() + ":" + record.value();
                String operation = History.send(History.log(output, record.partition()), value, record);
                worker.send(producer, new ProducerRecord<>(output, record.partition(), key, Long.toString(value)), operation);
                offsets.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
            }
            worker.sendOffsets(producer, consumer, group, offsets);
            if (worker.random.nextInt(10) > 0) {
                worker.commit(producer);
                return;
            }
        } catch (RuntimeException failure) {
            if (!Worker.isPassing(failure)) {
                throw failure;
            }
            System.err.println("aborted: " + failure);
        }
        worker.abort(producer);
        worker.rewind(consumer);
    }

    /** What the group gave this member, told before the first record of it. */
    private final class Rebalances implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;

        Rebalances(KafkaConsumer<String, String> consumer) {
            this.consumer = consumer;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            worker.history.ok(History.logs("rebalance", consumer.assignment()));
        }
    }
}
