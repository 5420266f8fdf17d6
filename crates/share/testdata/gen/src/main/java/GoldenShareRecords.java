import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.coordinator.share.PersisterStateBatchCombiner;
import org.apache.kafka.coordinator.share.ShareCoordinatorRecordSerde;
import org.apache.kafka.coordinator.share.generated.ShareSnapshotKey;
import org.apache.kafka.coordinator.share.generated.ShareSnapshotValue;
import org.apache.kafka.coordinator.share.generated.ShareUpdateKey;
import org.apache.kafka.coordinator.share.generated.ShareUpdateValue;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.server.common.ApiMessageAndVersion;
import org.apache.kafka.server.share.SharePartitionKey;
import org.apache.kafka.server.share.persister.PersisterStateBatch;

/** Writes records of __share_group_state with Kafka's own classes; one JSON object per line. */
public final class GoldenShareRecords {
    private static final List<String> LINES = new ArrayList<>();
    private static final ShareCoordinatorRecordSerde SERDE = new ShareCoordinatorRecordSerde();

    public static void main(String[] args) throws IOException {
        keys();
        values();
        combinations();
        Files.writeString(Path.of(args[0]), "[\n" + String.join(",\n", LINES) + "\n]\n");
    }

    private static void keys() {
        Uuid[] topics = {new Uuid(0x0123456789abcdefL, 0xfedcba9876543210L), new Uuid(1, 2),
            new Uuid(-1, -2)};
        for (String group : List.of("workers", "g", "\u00e4 \u20ac:x")) {
            for (Uuid topic : topics) {
                for (int partition : new int[] {0, 7, 12345}) {
                    byte[] snapshot = SERDE.serializeKey(CoordinatorRecord.tombstone(
                        new ShareSnapshotKey().setGroupId(group).setTopicId(topic)
                            .setPartition(partition)));
                    byte[] update = SERDE.serializeKey(CoordinatorRecord.tombstone(
                        new ShareUpdateKey().setGroupId(group).setTopicId(topic)
                            .setPartition(partition)));
                    String name = SharePartitionKey.asCoordinatorKey(group, topic, partition);
                    LINES.add(String.format("{\"kind\":\"key\",\"group\":\"%s\",\"topic\":\"%016x%016x\","
                            + "\"partition\":%d,\"snapshot\":\"%s\",\"update\":\"%s\",\"name\":\"%s\","
                            + "\"of_50\":%d}",
                        group, topic.getMostSignificantBits(), topic.getLeastSignificantBits(),
                        partition, hex(snapshot), hex(update), name, Utils.abs(name.hashCode()) % 50));
                }
            }
        }
    }

    private static void values() {
        int[][] shapes = {{}, {0}, {0, 2, 4}};
        for (int[] states : shapes) {
            for (int count : new int[] {-1, 0, 77}) {
                List<ShareSnapshotValue.StateBatch> batches = new ArrayList<>();
                List<ShareUpdateValue.StateBatch> updates = new ArrayList<>();
                List<String> named = new ArrayList<>();
                for (int at = 0; at < states.length; at++) {
                    long first = 1000 + 10L * at;
                    batches.add(new ShareSnapshotValue.StateBatch().setFirstOffset(first)
                        .setLastOffset(first + 4).setDeliveryState((byte) states[at])
                        .setDeliveryCount((short) (at + 1)));
                    updates.add(new ShareUpdateValue.StateBatch().setFirstOffset(first)
                        .setLastOffset(first + 4).setDeliveryState((byte) states[at])
                        .setDeliveryCount((short) (at + 1)));
                    named.add(String.format("[%d,%d,%d,%d]", first, first + 4, states[at], at + 1));
                }
                ShareSnapshotValue snapshot = new ShareSnapshotValue().setSnapshotEpoch(3)
                    .setStateEpoch(4).setLeaderEpoch(5).setStartOffset(count == 0 ? -1 : 1000)
                    .setCreateTimestamp(1700000000123L).setWriteTimestamp(1700000000456L)
                    .setDeliveryCompleteCount(count).setStateBatches(batches);
                ShareUpdateValue update = new ShareUpdateValue().setSnapshotEpoch(3)
                    .setLeaderEpoch(5).setStartOffset(count == 0 ? -1 : 1000)
                    .setDeliveryCompleteCount(count).setStateBatches(updates);
                LINES.add(String.format("{\"kind\":\"value\",\"start\":%d,\"count\":%d,\"batches\":%s,"
                        + "\"snapshot\":\"%s\",\"update\":\"%s\"}",
                    snapshot.startOffset(), count, named,
                    hex(MessageUtil.toVersionPrefixedBytes((short) 0, snapshot)),
                    hex(MessageUtil.toVersionPrefixedBytes((short) 0, update))));
            }
        }
    }

    /** What Kafka makes of batches that were stored and batches that are new. */
    private static void combinations() {
        Random random = new Random(20260101);
        byte[] states = {0, 2, 4};
        for (int round = 0; round < 120; round++) {
            List<PersisterStateBatch> before = new ArrayList<>();
            long next = random.nextInt(5);
            for (int at = random.nextInt(5); at > 0; at--) {
                long last = next + random.nextInt(6);
                before.add(new PersisterStateBatch(next, last, states[random.nextInt(3)],
                    (short) (1 + random.nextInt(2))));
                next = last + 1 + random.nextInt(3);
            }
            List<PersisterStateBatch> after = new ArrayList<>();
            for (int at = 1 + random.nextInt(3); at > 0; at--) {
                long first = random.nextInt(30);
                after.add(new PersisterStateBatch(first, first + random.nextInt(10),
                    states[random.nextInt(3)], (short) (1 + random.nextInt(2))));
            }
            long start = random.nextInt(12);
            List<PersisterStateBatch> combined =
                new PersisterStateBatchCombiner(before, after, start).combineStateBatches();
            LINES.add(String.format("{\"kind\":\"combination\",\"before\":%s,\"after\":%s,"
                + "\"start\":%d,\"combined\":%s}", named(before), named(after), start, named(combined)));
        }
    }

    private static List<String> named(List<PersisterStateBatch> batches) {
        return batches.stream().map(batch -> String.format("[%d,%d,%d,%d]", batch.firstOffset(),
            batch.lastOffset(), batch.deliveryState(), batch.deliveryCount())).toList();
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
