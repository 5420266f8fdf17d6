package dlog;

import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32C;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;

/** Prints what Kafka reads in the batches of one file, a line for each batch and each record. */
final class Describe {
    /** Longer fields are described by their length and CRC32C. */
    private static final int MAX_HEX_BYTES = 48;

    private Describe() {}

    static void file(String name, byte[] bytes, PrintStream out) {
        out.println("file " + name + " " + bytes.length);
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            if (batch.magic() < 2) {
                out.println("legacy magic=" + batch.magic());
                continue;
            }
            batch.ensureValid();
            out.println(batch((DefaultRecordBatch) batch));
            for (Record record : batch) {
                record.ensureValid();
                out.println(record(record));
            }
        }
    }

    private static String batch(DefaultRecordBatch batch) {
        return "batch"
                + " base_offset=" + batch.baseOffset()
                + " last_offset=" + batch.lastOffset()
                + " next_offset=" + batch.nextOffset()
                + " total_bytes=" + batch.sizeInBytes()
                + " leader_epoch=" + batch.partitionLeaderEpoch()
                + " magic=" + batch.magic()
                + " crc=" + batch.checksum()
                + " compression=" + batch.compressionType().name
                + " timestamp_type=" + batch.timestampType()
                + " transactional=" + batch.isTransactional()
                + " control=" + batch.isControlBatch()
                + " delete_horizon=" + batch.deleteHorizonMs().orElse(-1)
                + " base_timestamp=" + batch.baseTimestamp()
                + " max_timestamp=" + batch.maxTimestamp()
                + " producer_id=" + batch.producerId()
                + " producer_epoch=" + batch.producerEpoch()
                + " base_sequence=" + batch.baseSequence()
                + " last_sequence=" + batch.lastSequence()
                + " count=" + batch.countOrNull();
    }

    private static String record(Record record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.isEmpty() ? "" : ",")
                    .append(field(ByteBuffer.wrap(header.key().getBytes(StandardCharsets.UTF_8))))
                    .append(':')
                    .append(field(header.value() == null ? null : ByteBuffer.wrap(header.value())));
        }
        return "record offset=" + record.offset()
                + " timestamp=" + record.timestamp()
                + " sequence=" + record.sequence()
                + " key=" + field(record.key())
                + " value=" + field(record.value())
                + " headers=" + headers;
    }

    private static String field(ByteBuffer buffer) {
        if (buffer == null) {
            return "null";
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        if (bytes.length > MAX_HEX_BYTES) {
            CRC32C crc = new CRC32C();
            crc.update(bytes);
            return "#" + bytes.length + "#" + crc.getValue();
        }
        StringBuilder hex = new StringBuilder();
        for (byte b : bytes) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }
}
