import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/**
 * Reads a whole topic, from the first record to the end that it has at the start, into a file: for each
 * record a line with partition, offset, key and value, separated by tabs, as the bytes came.
 */
final class TopicReader {
    private TopicReader() {}

    static void read(String bootstrap, String topic, Path file) throws IOException {
        Map<String, Object> settings = Map.of("max.poll.records", 10_000, "check.crcs", true);
        try (KafkaConsumer<byte[], byte[]> consumer = new Clients(bootstrap, topic).consumer(settings);
                OutputStream out = new BufferedOutputStream(Files.newOutputStream(file), 1 << 20)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo partition : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, partition.partition()));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    write(out, record);
                }
            }
        }
    }

    private static void write(OutputStream out, ConsumerRecord<byte[], byte[]> record) throws IOException {
        out.write(DataSet.bytes(record.partition() + "\t" + record.offset() + "\t"));
        out.write(record.key());
        out.write('\t');
        out.write(record.value());
        out.write('\n');
    }
}
