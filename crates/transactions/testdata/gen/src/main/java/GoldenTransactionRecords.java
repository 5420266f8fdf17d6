import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;

import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.coordinator.transaction.TransactionLog;
import org.apache.kafka.coordinator.transaction.TransactionState;
import org.apache.kafka.coordinator.transaction.TxnTransitMetadata;
import org.apache.kafka.coordinator.transaction.generated.TransactionLogValue;
import org.apache.kafka.coordinator.transaction.generated.TransactionLogValue.PartitionsSchema;
import org.apache.kafka.server.common.TransactionVersion;

/** Writes records of __transaction_state with Kafka's own classes; one JSON object per line. */
public final class GoldenTransactionRecords {
    private static final List<String> LINES = new ArrayList<>();

    public static void main(String[] args) throws IOException {
        keys();
        schema();
        coordinator();
        placement();
        Files.writeString(Path.of(args[0]), "[\n" + String.join(",\n", LINES) + "\n]\n");
    }

    private static void keys() {
        for (String id : List.of("my-txn", "", "\u00e4 \u20ac")) {
            LINES.add(String.format("{\"kind\":\"key\",\"id\":\"%s\",\"key\":\"%s\"}", id,
                hex(TransactionLog.keyToBytes(id))));
        }
    }

    /** Every field, in both versions, by the generated class alone. */
    private static void schema() {
        for (short version = 0; version <= 1; version++) {
            for (int shape = 0; shape < 4; shape++) {
                boolean tagged = version == 1 && shape % 2 == 1;
                TransactionLogValue value = new TransactionLogValue()
                    .setProducerId(4000 + shape)
                    .setProducerEpoch((short) (shape == 3 ? 32767 : shape))
                    .setTransactionTimeoutMs(60000)
                    .setTransactionStatus((byte) (shape == 0 ? 0 : shape + 1))
                    .setTransactionLastUpdateTimestampMs(1700000000123L)
                    .setTransactionStartTimestampMs(shape == 0 ? -1 : 1700000000100L);
                if (tagged) {
                    value.setPreviousProducerId(3999).setNextProducerId(shape == 3 ? 5000 : -1)
                        .setNextProducerEpoch((short) (shape == 3 ? 7 : -1))
                        .setClientTransactionVersion((short) 2);
                }
                value.setTransactionPartitions(switch (shape) {
                    case 0 -> null;
                    case 1 -> List.of();
                    case 2 -> List.of(topic("orders", 0));
                    default -> List.of(topic("z-last", 7, 3, 200), topic("__consumer_offsets", 49),
                        topic("\u00e4\u20ac"));
                });
                add("schema", version, MessageUtil.toVersionPrefixedBytes(version, value), value);
            }
        }
    }

    /** What Kafka's coordinator itself writes, at each level of the feature transaction.version. */
    private static void coordinator() {
        for (TransactionVersion level : TransactionVersion.values()) {
            for (TransactionState state : TransactionState.values()) {
                Set<TopicPartition> partitions = state == TransactionState.ONGOING
                    || state == TransactionState.PREPARE_COMMIT
                    || state == TransactionState.PREPARE_ABORT
                    ? Set.of(new TopicPartition("orders", 5)) : Set.of();
                TransactionVersion client =
                    level == TransactionVersion.TV_2 ? level : TransactionVersion.TV_0;
                TxnTransitMetadata metadata = new TxnTransitMetadata(77, 76,
                    state == TransactionState.PREPARE_COMMIT ? 78 : -1, (short) 9, (short) 8, 30000,
                    state, new HashSet<>(partitions), state == TransactionState.EMPTY ? -1 : 11, 12,
                    client);
                byte[] bytes = TransactionLog.valueToBytes(metadata, level);
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                short version = buffer.getShort();
                TransactionLogValue value = new TransactionLogValue(
                    new org.apache.kafka.common.protocol.ByteBufferAccessor(buffer), version);
                add("coordinator", version, bytes, value);
            }
        }
    }

    private static void placement() {
        for (String id : List.of("", "a", "my-txn", "\u00e4\u20ac", "\ud83d\ude00 emoji",
            "polygenelubricants", "streams-app-0_1")) {
            LINES.add(String.format("{\"kind\":\"placement\",\"id\":\"%s\",\"of_50\":%d}", id,
                Utils.abs(id.hashCode()) % 50));
        }
    }

    private static PartitionsSchema topic(String name, Integer... partitions) {
        return new PartitionsSchema().setTopic(name).setPartitionIds(List.of(partitions));
    }

    private static void add(String kind, short version, byte[] bytes, TransactionLogValue value) {
        String partitions = "null";
        if (value.transactionPartitions() != null) {
            List<String> topics = new ArrayList<>();
            for (PartitionsSchema topic : value.transactionPartitions()) {
                topics.add(String.format("[\"%s\",%s]", topic.topic(), topic.partitionIds()));
            }
            partitions = topics.toString();
        }
        LINES.add(String.format("{\"kind\":\"%s\",\"version\":%d,\"value\":\"%s\","
                + "\"producer_id\":%d,\"previous\":%d,\"next\":%d,\"epoch\":%d,\"next_epoch\":%d,"
                + "\"timeout\":%d,\"status\":%d,\"partitions\":%s,\"updated\":%d,\"started\":%d,"
                + "\"client_version\":%d}",
            kind, version, hex(bytes), value.producerId(), value.previousProducerId(),
            value.nextProducerId(), value.producerEpoch(), value.nextProducerEpoch(),
            value.transactionTimeoutMs(), value.transactionStatus(), partitions,
            value.transactionLastUpdateTimestampMs(), value.transactionStartTimestampMs(),
            value.clientTransactionVersion()));
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
