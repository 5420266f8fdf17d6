import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * Writes what this process does as lines of a history; the line is defined in {@code
 * tests/history/src/merge.rs}.
 *
 * <p>A line is one write, so that a kill leaves whole lines and at most a part of the last one.
 */
final class History {
    private final FileOutputStream out;
    private final int process;

    History(Path file, int process) throws IOException {
        this.out = new FileOutputStream(file.toFile(), true);
        this.process = process;
    }

    /** CLOCK_MONOTONIC, which all processes of a machine share. */
    static long now() {
        return System.nanoTime();
    }

    void invoke(String operation) {
        line(now(), "invoke", operation);
    }

    void ok(String operation) {
        line(now(), "ok", operation);
    }

    void fail(String operation) {
        line(now(), "fail", operation);
    }

    void info(String operation) {
        line(now(), "info", operation);
    }

    /** A poll that began at a time and gave records; an empty one says nothing. */
    void poll(long began, String isolation, ConsumerRecords<String, String> records) {
        if (records.isEmpty()) {
            return;
        }
        Map<String, StringBuilder> found = new TreeMap<>();
        for (ConsumerRecord<String, String> record : records) {
            StringBuilder text = found.computeIfAbsent(log(record.topic(), record.partition()), log -> new StringBuilder());
            text.append(text.length() == 0 ? "" : ",");
            text.append('[').append(record.offset()).append(',').append(record.value()).append(']');
        }
        StringBuilder all = new StringBuilder();
        found.forEach((log, text) -> all.append(all.length() == 0 ? "" : ",")
                .append('"').append(log).append("\":[").append(text).append(']'));
        String poll = "\"f\":\"poll\",\"isolation\":\"" + isolation + "\"";
        line(began, "invoke", poll);
        line(now(), "ok", poll + ",\"records\":{" + all + "}");
    }

    static String send(String log, long value) {
        return "\"f\":\"send\",\"log\":\"" + log + "\",\"value\":" + value;
    }

    static String send(String log, long value, ConsumerRecord<String, String> source) {
        return send(log, value) + ",\"source\":[\"" + log(source.topic(), source.partition()) + "\"," + source.offset() + "]";
    }

    static String logs(String operation, Collection<TopicPartition> partitions) {
        StringBuilder text = new StringBuilder();
        for (TopicPartition partition : partitions) {
            text.append(text.length() == 0 ? "" : ",");
            text.append('"').append(log(partition.topic(), partition.partition())).append('"');
        }
        return "\"f\":\"" + operation + "\",\"logs\":[" + text + "]";
    }

    static String seek(TopicPartition partition, long offset) {
        return "\"f\":\"seek\",\"log\":\"" + log(partition.topic(), partition.partition()) + "\",\"offset\":" + offset;
    }

    static String offsets(String group, Map<TopicPartition, OffsetAndMetadata> offsets) {
        StringBuilder text = new StringBuilder();
        offsets.forEach((partition, offset) -> text.append(text.length() == 0 ? "" : ",")
                .append('"').append(log(partition.topic(), partition.partition())).append("\":").append(offset.offset()));
        return "\"f\":\"commit_offsets\",\"group\":\"" + group + "\",\"offsets\":{" + text + "}";
    }

    static String log(String topic, int partition) {
        return topic + "-" + partition;
    }

    private synchronized void line(long at, String type, String operation) {
        String line = "{\"at\":" + at + ",\"process\":" + process + ",\"type\":\"" + type + "\"," + operation + "}\n";
        try {
            out.write(line.getBytes(StandardCharsets.UTF_8));
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
