import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordHelpers;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.LegacyOffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.LegacyOffsetCommitValue;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.server.common.ApiMessageAndVersion;

/** Writes records of __consumer_offsets with Kafka's own classes; one JSON object per line. */
public final class GoldenGroupRecords {
    private static final GroupCoordinatorRecordSerde SERDE = new GroupCoordinatorRecordSerde();
    private static final List<String> LINES = new ArrayList<>();

    public static void main(String[] args) throws IOException {
        offsets();
        groups();
        tombstones();
        subscriptions();
        placement();
        Path target = Path.of(args[0]);
        Files.writeString(target, "[\n" + String.join(",\n", LINES) + "\n]\n");
    }

    private static void offsets() {
        for (short version = 0; version <= 4; version++) {
            for (String metadata : List.of("", "seen \u00e4 \u20ac", "x".repeat(200))) {
                for (Uuid id : List.of(Uuid.ZERO_UUID, new Uuid(0x0102030405060708L, -2L))) {
                    OffsetCommitKey key = new OffsetCommitKey()
                        .setGroup("my-group").setTopic("my-topic").setPartition(7);
                    OffsetCommitValue value = new OffsetCommitValue()
                        .setOffset(1234567890123L)
                        .setLeaderEpoch(version >= 3 ? 42 : -1)
                        .setMetadata(metadata)
                        .setCommitTimestamp(1700000000123L)
                        .setExpireTimestamp(version == 1 ? 1700000600123L : -1)
                        .setTopicId(version >= 4 ? id : Uuid.ZERO_UUID);
                    add("offset", version, key, value, String.format(
                        "\"offset\":%d,\"leader_epoch\":%d,\"metadata\":\"%s\",\"commit\":%d,"
                            + "\"expire\":%d,\"topic_id_high\":%d,\"topic_id_low\":%d",
                        value.offset(), value.leaderEpoch(), metadata, value.commitTimestamp(),
                        value.expireTimestamp(), value.topicId().getMostSignificantBits(),
                        value.topicId().getLeastSignificantBits()));
                }
            }
        }
        add("legacy-offset", (short) 0,
            new LegacyOffsetCommitKey().setGroup("my-group").setTopic("my-topic").setPartition(7),
            new LegacyOffsetCommitValue().setOffset(99).setMetadata("old").setCommitTimestamp(5),
            "\"offset\":99,\"leader_epoch\":-1,\"metadata\":\"old\",\"commit\":5,\"expire\":-1,"
                + "\"topic_id_high\":0,\"topic_id_low\":0");
    }

    private static void groups() {
        for (short version = 0; version <= 4; version++) {
            GroupMetadataValue empty = new GroupMetadataValue()
                .setProtocolType("").setGeneration(0).setProtocol(null).setLeader(null)
                .setCurrentStateTimestamp(version >= 2 ? 1700000000123L : -1).setMembers(List.of());
            add("empty-group", version, new GroupMetadataKey().setGroup("my-group"), empty,
                "\"members\":0");
            List<GroupMetadataValue.MemberMetadata> members = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                members.add(new GroupMetadataValue.MemberMetadata()
                    .setMemberId("member-" + i)
                    .setGroupInstanceId(version >= 3 && i == 1 ? "instance-1" : null)
                    .setClientId("client-" + i)
                    .setClientHost("/10.0.0." + i)
                    .setRebalanceTimeout(version >= 1 ? 300000 + i : -1)
                    .setSessionTimeout(45000 + i)
                    .setSubscription(new byte[] {1, 2, (byte) i})
                    .setAssignment(i == 2 ? new byte[0] : new byte[] {9, (byte) i}));
            }
            GroupMetadataValue full = new GroupMetadataValue()
                .setProtocolType("consumer").setGeneration(17).setProtocol("range")
                .setLeader("member-0")
                .setCurrentStateTimestamp(version >= 2 ? 1700000000123L : -1).setMembers(members);
            add("group", version, new GroupMetadataKey().setGroup("my-group"), full,
                "\"members\":3");
        }
    }

    private static void tombstones() {
        add("offset-tombstone",
            GroupCoordinatorRecordHelpers.newOffsetCommitTombstoneRecord("my-group", "my-topic", 7));
        add("group-tombstone",
            GroupCoordinatorRecordHelpers.newGroupMetadataTombstoneRecord("my-group"));
    }

    private static void subscriptions() {
        for (short version = 0; version <= 3; version++) {
            byte[] bytes = Utils.toArray(ConsumerProtocol.serializeSubscription(
                new Subscription(List.of("a", "topic-b", "\u00e4")), version));
            LINES.add(String.format("{\"kind\":\"subscription\",\"version\":%d,\"value\":\"%s\"}",
                version, HexFormat.of().formatHex(bytes)));
        }
    }

    private static void placement() {
        for (String group : List.of("", "a", "my-group", "\u00e4\u20ac", "\ud83d\ude00 emoji",
            "polygenelubricants", "connect-cluster")) {
            LINES.add(String.format("{\"kind\":\"placement\",\"group\":\"%s\",\"of_50\":%d}",
                group, Utils.abs(group.hashCode()) % 50));
        }
    }

    private static void add(String kind, short version, ApiMessage key, ApiMessage value,
            String fields) {
        CoordinatorRecord record =
            CoordinatorRecord.record(key, new ApiMessageAndVersion(value, version));
        LINES.add(String.format(
            "{\"kind\":\"%s\",\"version\":%d,\"key\":\"%s\",\"value\":\"%s\",%s}", kind, version,
            hex(SERDE.serializeKey(record)), hex(SERDE.serializeValue(record)), fields));
    }

    private static void add(String kind, CoordinatorRecord tombstone) {
        if (SERDE.serializeValue(tombstone) != null) {
            throw new IllegalStateException("a tombstone has no value");
        }
        LINES.add(String.format("{\"kind\":\"%s\",\"key\":\"%s\"}", kind,
            hex(SERDE.serializeKey(tombstone))));
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
