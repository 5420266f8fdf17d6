import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The seven records that every client writes once with each codec, and the check of what was read. */
final class DataSet {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final long FIRST_TIMESTAMP = 1_700_000_000_000L;
    static final int BIG_BYTES = 900_000;

    record Row(byte[] key, byte[] value, List<Header> headers, long timestamp) {}

    private DataSet() {}

    static List<Row> rows() {
        List<Row> rows = new ArrayList<>();
        add(rows, bytes("key"), bytes("value"), header("h", "1"), header("h", "2"), header("e", ""));
        add(rows, null, bytes("no key"));
        add(rows, bytes("null-value"), null);
        add(rows, bytes("empty-value"), new byte[0]);
        byte[] every = new byte[256];
        for (int i = 0; i < every.length; i++) {
            every[i] = (byte) i;
        }
        add(rows, new byte[] {0, (byte) 0xff, (byte) 0xfe, (byte) 0x80}, every, header("b", "\u00ff"));
        add(rows, bytes("text"), bytes("compressible ".repeat(1000)));
        add(rows, bytes("big"), noise(BIG_BYTES));
        return rows;
    }

    /** Bytes that do not compress: the minimal standard generator, seed 1. */
    static byte[] noise(int length) {
        byte[] out = new byte[length];
        long state = 1;
        for (int i = 0; i < length; i++) {
            state = state * 48271 % 2147483647;
            out[i] = (byte) state;
        }
        return out;
    }

    static ProducerRecord<byte[], byte[]> record(String topic, Row row) {
        return new ProducerRecord<>(topic, 0, row.timestamp, row.key, row.value, row.headers);
    }

    /** Compares what was read, in order, with the data set; every difference fails. */
    static void compare(List<ConsumerRecord<byte[], byte[]>> found, boolean withTimestamps) {
        List<Row> expected = rows();
        Report.same("the number of records", expected.size(), found.size());
        for (int i = 0; i < expected.size(); i++) {
            Row row = expected.get(i);
            ConsumerRecord<byte[], byte[]> record = found.get(i);
            String at = "record " + i + ": ";
            Report.same(at + "offset", (long) i, record.offset());
            Report.check(Arrays.equals(row.key, record.key()), at + "the key differs");
            Report.check(Arrays.equals(row.value, record.value()), at + "the value differs");
            List<Header> headers = Arrays.asList(record.headers().toArray());
            Report.same(at + "headers", row.headers, headers);
            if (withTimestamps) {
                Report.same(at + "timestamp", row.timestamp, record.timestamp());
            }
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static Header header(String key, String value) {
        return new RecordHeader(key, bytes(value));
    }

    private static void add(List<Row> rows, byte[] key, byte[] value, Header... headers) {
        rows.add(new Row(key, value, List.of(headers), FIRST_TIMESTAMP + rows.size() * 1000L));
    }
}
