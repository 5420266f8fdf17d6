package dlog;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.KRaftVersionRecord;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.message.SnapshotFooterRecord;
import org.apache.kafka.common.message.SnapshotHeaderRecord;
import org.apache.kafka.common.message.VotersRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

/** The batches: each codec, and each corner of the format. */
final class Vectors {
    private static final long NOW = 1_700_000_000_123L;
    private static final Header[] NO_HEADERS = {};

    private final Map<String, byte[]> all = new LinkedHashMap<>();

    private Vectors() {}

    static Map<String, byte[]> all() {
        Vectors vectors = new Vectors();
        vectors.codecs();
        vectors.levels();
        vectors.timestamps();
        vectors.offsets();
        vectors.producers();
        vectors.control();
        vectors.legacy();
        return vectors.all;
    }

    private void codecs() {
        Map<String, Compression> codecs = new LinkedHashMap<>();
        codecs.put("none", Compression.NONE);
        codecs.put("gzip", Compression.gzip().build());
        codecs.put("snappy", Compression.snappy().build());
        codecs.put("lz4", Compression.lz4().build());
        codecs.put("zstd", Compression.zstd().build());
        codecs.forEach((name, codec) -> {
            Spec spec = new Spec();
            spec.codec = codec;
            put("mixed-" + name, spec, Vectors::mixed);
            if (codec != Compression.NONE) {
                put("blocks-" + name, spec, Vectors::manyBlocks);
                put("mebibyte-" + name, spec, builder -> builder.append(NOW, utf8("big"), mebibyte(), NO_HEADERS));
            }
        });
    }

    private void levels() {
        Map<String, Compression> levels = new LinkedHashMap<>();
        levels.put("gzip-1", Compression.gzip().level(1).build());
        levels.put("gzip-9", Compression.gzip().level(9).build());
        levels.put("lz4-17", Compression.lz4().level(17).build());
        levels.put("zstd-fast", Compression.zstd().level(-5).build());
        levels.put("zstd-22", Compression.zstd().level(22).build());
        levels.forEach((name, codec) -> {
            Spec spec = new Spec();
            spec.codec = codec;
            put("level-" + name, spec, Vectors::mixed);
        });
    }

    private void timestamps() {
        put("log-append-time", appendTime(Compression.NONE), Vectors::mixed);
        put("log-append-time-zstd", appendTime(Compression.zstd().build()), Vectors::mixed);
        put("timestamps", new Spec(), builder -> {
            for (long timestamp : new long[] {NOW, NOW - 1, NOW + 1, 0, -1, 1, NOW + 63, NOW - 65, 253402300799999L}) {
                builder.append(timestamp, null, utf8(Long.toString(timestamp)), NO_HEADERS);
            }
        });
        put("no-timestamps", new Spec(), builder -> {
            builder.append(RecordBatch.NO_TIMESTAMP, utf8("k"), utf8("v"), NO_HEADERS);
            builder.append(RecordBatch.NO_TIMESTAMP, utf8("k"), utf8("w"), NO_HEADERS);
        });
        put("timestamp-extremes", new Spec(), builder -> {
            builder.append(0, null, utf8("epoch"), NO_HEADERS);
            builder.append(Long.MAX_VALUE, null, utf8("the end"), NO_HEADERS);
        });
        Spec horizon = new Spec();
        horizon.deleteHorizonMs = NOW + 86_400_000;
        put("delete-horizon", horizon, Vectors::mixed);
    }

    private static Spec appendTime(Compression codec) {
        Spec spec = new Spec();
        spec.codec = codec;
        spec.timestampType = TimestampType.LOG_APPEND_TIME;
        spec.logAppendTime = NOW + 4_242;
        return spec;
    }

    private void offsets() {
        Spec far = new Spec();
        far.baseOffset = 5_000_000_000L;
        far.leaderEpoch = 77;
        put("offset-gaps", far, builder -> {
            for (int delta : new int[] {0, 1, 63, 64, 127, 128, 8_191, 8_192, 1_000_000, Integer.MAX_VALUE - 1}) {
                builder.appendWithOffset(far.baseOffset + delta, NOW + delta, utf8("k" + delta), utf8("v"), NO_HEADERS);
            }
        });
        put("compacted-tail", far, builder -> {
            builder.appendWithOffset(far.baseOffset + 3, NOW, utf8("k"), utf8("v"), NO_HEADERS);
            builder.overrideLastOffset(far.baseOffset + 9);
        });
        ByteBuffer empty = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        DefaultRecordBatch.writeEmptyHeader(
                empty, RecordBatch.CURRENT_MAGIC_VALUE, 4_000L, (short) 3, 17, 100L, 104L, 9,
                TimestampType.CREATE_TIME, NOW, true, false);
        all.put("compacted-empty", empty.array());
    }

    private void producers() {
        Spec idempotent = producer(Integer.MAX_VALUE - 1);
        put("idempotent", producer(0), Vectors::mixed);
        put("sequence-wraps", idempotent, Vectors::mixed);
        Spec transactional = producer(41);
        transactional.transactional = true;
        put("transactional", transactional, Vectors::mixed);
        Spec packed = producer(41);
        packed.transactional = true;
        packed.codec = Compression.lz4().build();
        put("transactional-lz4", packed, Vectors::mixed);
    }

    private static Spec producer(int baseSequence) {
        Spec spec = new Spec();
        spec.producerId = 9_000_000_001L;
        spec.producerEpoch = 12;
        spec.baseSequence = baseSequence;
        spec.leaderEpoch = 5;
        return spec;
    }

    private void control() {
        marker("marker-commit", ControlRecordType.COMMIT, 31);
        marker("marker-abort", ControlRecordType.ABORT, 0);
        LeaderChangeMessage change = new LeaderChangeMessage()
                .setLeaderId(1)
                .setVoters(List.of(new LeaderChangeMessage.Voter().setVoterId(1)))
                .setGrantingVoters(List.of(new LeaderChangeMessage.Voter().setVoterId(1)));
        put("leader-change", MemoryRecords.withLeaderChangeMessage(10, NOW, 4, scratch(), change));
        put("snapshot-header", MemoryRecords.withSnapshotHeaderRecord(
                0, NOW, 4, scratch(), new SnapshotHeaderRecord().setLastContainedLogTimestamp(NOW)));
        put("snapshot-footer", MemoryRecords.withSnapshotFooterRecord(9, NOW, 4, scratch(), new SnapshotFooterRecord()));
        put("kraft-version", MemoryRecords.withKRaftVersionRecord(
                1, NOW, 4, scratch(), new KRaftVersionRecord().setKRaftVersion((short) 1)));
        VotersRecord.Voter voter =
                new VotersRecord.Voter().setVoterId(3).setVoterDirectoryId(Uuid.ONE_UUID);
        put("kraft-voters", MemoryRecords.withVotersRecord(
                2, NOW, 4, scratch(), new VotersRecord().setVoters(List.of(voter))));
    }

    private void marker(String name, ControlRecordType type, int coordinatorEpoch) {
        put(name, MemoryRecords.withEndTransactionMarker(
                55L, NOW, 6, 9_000_000_001L, (short) 12, new EndTransactionMarker(type, coordinatorEpoch)));
    }

    /** The message sets that Kafka 4 no longer takes. */
    private void legacy() {
        for (byte magic : new byte[] {RecordBatch.MAGIC_VALUE_V0, RecordBatch.MAGIC_VALUE_V1}) {
            MemoryRecordsBuilder builder = MemoryRecords.builder(
                    scratch(), magic, Compression.NONE, TimestampType.CREATE_TIME, 0L);
            builder.append(magic == 0 ? RecordBatch.NO_TIMESTAMP : NOW, utf8("k"), utf8("v"));
            put("legacy-magic-" + magic, builder.build());
        }
    }

    /** Null, empty and long keys, values and headers. */
    private static void mixed(MemoryRecordsBuilder builder) {
        builder.append(NOW, utf8("key"), utf8("value"), NO_HEADERS);
        builder.append(NOW, null, utf8("no key"), NO_HEADERS);
        builder.append(NOW + 1, utf8("tombstone"), null, NO_HEADERS);
        builder.append(NOW + 2, (byte[]) null, null, NO_HEADERS);
        builder.append(NOW + 2, new byte[0], utf8("empty key"), NO_HEADERS);
        builder.append(NOW + 3, utf8("empty value"), new byte[0], NO_HEADERS);
        builder.append(NOW - 5, new byte[0], new byte[0], NO_HEADERS);
        builder.append(NOW + 4, utf8("one header"), utf8("v"), new Header[] {header("trace", utf8("abc"))});
        builder.append(NOW + 5, utf8("headers"), null, new Header[] {
            header("same", utf8("1")), header("same", utf8("2")), header("null", null),
            header("empty", new byte[0]), header("", utf8("empty key")), header("grüße ☃", new byte[] {0, -1, 127}),
        });
        builder.append(NOW + 6, pattern(127, 1), pattern(128, 2), NO_HEADERS);
        builder.append(NOW + 1_000_000, pattern(300, 3), pattern(5_000, 4), new Header[] {header("big", pattern(200, 5))});
    }

    /** Enough bytes for several blocks of every codec. */
    private static void manyBlocks(MemoryRecordsBuilder builder) {
        for (int i = 0; i < 40; i++) {
            builder.append(NOW + i, utf8("key-" + i), pattern(5_000, i), NO_HEADERS);
        }
    }

    private static byte[] mebibyte() {
        byte[] value = new byte[(1 << 20) + 1];
        for (int i = 0; i < value.length; i++) {
            value[i] = (byte) (i >> 12);
        }
        return value;
    }

    private static byte[] pattern(int length, int seed) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) ('a' + (i / 7 + seed) % 26);
        }
        return bytes;
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    private static ByteBuffer scratch() {
        return ByteBuffer.allocate(512);
    }

    private interface Fill {
        void into(MemoryRecordsBuilder builder);
    }

    private void put(String name, Spec spec, Fill fill) {
        MemoryRecordsBuilder builder = spec.builder();
        fill.into(builder);
        put(name, builder.build());
    }

    private void put(String name, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        all.put(name, bytes);
    }

    /** What a builder is made with. */
    private static final class Spec {
        private Compression codec = Compression.NONE;
        private TimestampType timestampType = TimestampType.CREATE_TIME;
        private long logAppendTime = RecordBatch.NO_TIMESTAMP;
        private long deleteHorizonMs = RecordBatch.NO_TIMESTAMP;
        private long baseOffset = 0;
        private long producerId = RecordBatch.NO_PRODUCER_ID;
        private short producerEpoch = RecordBatch.NO_PRODUCER_EPOCH;
        private int baseSequence = RecordBatch.NO_SEQUENCE;
        private boolean transactional = false;
        private int leaderEpoch = RecordBatch.NO_PARTITION_LEADER_EPOCH;

        private MemoryRecordsBuilder builder() {
            return new MemoryRecordsBuilder(
                    new ByteBufferOutputStream(4096), RecordBatch.CURRENT_MAGIC_VALUE, codec, timestampType,
                    baseOffset, logAppendTime, producerId, producerEpoch, baseSequence, transactional, false,
                    leaderEpoch, Integer.MAX_VALUE, deleteHorizonMs);
        }
    }
}
