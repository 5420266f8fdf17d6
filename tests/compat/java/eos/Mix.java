import java.time.Duration;
import java.util.ArrayList;
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

/** A random mix of sends and polls, in and outside of transactions, assigned and subscribed. */
final class Mix {
    private static final int PARTITIONS = 4;
    private final Worker worker;
    private final String topic;
    private final String group;
    private final String isolation;
    private final KafkaProducer<String, String> transactional;
    private final KafkaProducer<String, String> plain;
    private final KafkaConsumer<String, String> consumer;
    private final Map<TopicPartition, Long> next = new HashMap<>();
    private boolean subscribed;

    Mix(Worker worker) {
        this.worker = worker;
        this.topic = worker.prefix + "-mix";
        this.group = worker.prefix + "-mixers";
        this.isolation = worker.random.nextBoolean() ? "read_committed" : "read_uncommitted";
        this.transactional = worker.transactional();
        this.plain = worker.producer(Map.of("linger.ms", 0));
        this.consumer = worker.consumer(group, isolation, Map.of());
    }

    void run() {
        subscribe();
        while (!worker.stopped) {
            int choice = worker.random.nextInt(100);
            if (choice < 5) {
                subscribe();
            } else if (choice < 10) {
                assign();
            } else if (choice < 25) {
                send(plain);
                plain.flush();
            } else if (choice < 40) {
                poll();
            } else {
                transact();
            }
        }
        transactional.close(Duration.ofSeconds(10));
        plain.close(Duration.ofSeconds(10));
        consumer.close(Duration.ofSeconds(10));
    }

    private void transact() {
        worker.begin(transactional);
        try {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (int left = 1 + worker.random.nextInt(4); left > 0; left--) {
                if (worker.random.nextBoolean()) {
                    send(transactional);
                } else {
                    offsets.putAll(poll());
                }
            }
            if (subscribed && !offsets.isEmpty()) {
                worker.sendOffsets(transactional, consumer, group, offsets);
            }
            if (worker.random.nextInt(100) < 85) {
                worker.commit(transactional);
                return;
            }
        } catch (RuntimeException failure) {
            if (!Worker.isPassing(failure)) {
                throw failure;
            }
            System.err.println("aborted: " + failure);
        }
        worker.abort(transactional);
    }

    private void send(KafkaProducer<String, String> producer) {
        int partition = worker.random.nextInt(PARTITIONS);
        long value = worker.value();
        String operation = History.send(History.log(topic, partition), value);
        worker.send(producer, new ProducerRecord<>(topic, partition, null, Long.toString(value)), operation);
    }

    /** The offsets behind what was read. */
    private Map<TopicPartition, OffsetAndMetadata> poll() {
        long began = History.now();
        ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(50));
        worker.history.poll(began, isolation, records);
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (ConsumerRecord<String, String> record : records) {
            TopicPartition partition = new TopicPartition(record.topic(), record.partition());
            offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
            next.put(partition, record.offset() + 1);
        }
        return offsets;
    }

    private void subscribe() {
        consumer.unsubscribe();
        next.clear();
        worker.history.ok("\"f\":\"subscribe\",\"logs\":[\"" + topic + "\"]");
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                worker.history.ok(History.logs("rebalance", consumer.assignment()));
            }
        });
        subscribed = true;
    }

    /** Some partitions; each goes on where it was, or begins at the first record. */
    private void assign() {
        if (subscribed) {
            consumer.unsubscribe();
            next.clear();
        }
        subscribed = false;
        List<TopicPartition> chosen = new ArrayList<>();
        int always = worker.random.nextInt(PARTITIONS);
        for (int partition = 0; partition < PARTITIONS; partition++) {
            if (partition == always || worker.random.nextBoolean()) {
                chosen.add(new TopicPartition(topic, partition));
            }
        }
        next.keySet().retainAll(chosen);
        consumer.assign(chosen);
        worker.history.ok(History.logs("assign", chosen));
        for (TopicPartition partition : chosen) {
            long offset = next.getOrDefault(partition, 0L);
            consumer.seek(partition, offset);
            worker.history.ok(History.seek(partition, offset));
        }
    }
}
