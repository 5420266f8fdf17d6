import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordHelpers;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.generated.ConsumerGroupMemberMetadataValue;
import org.apache.kafka.coordinator.group.modern.MemberState;
import org.apache.kafka.coordinator.group.modern.consumer.ConsumerGroupMember;
import org.apache.kafka.coordinator.group.modern.consumer.ResolvedRegularExpression;

/** Writes records of consumer groups (KIP-848) with Kafka's own classes; one JSON object per line. */
public final class GoldenConsumerGroupRecords {
    private static final GroupCoordinatorRecordSerde SERDE = new GroupCoordinatorRecordSerde();
    private static final List<String> LINES = new ArrayList<>();
    private static final Uuid ONE = new Uuid(0x0102030405060708L, 0x1112131415161718L);
    private static final Uuid TWO = new Uuid(0x2122232425262728L, -2L);

    public static void main(String[] args) throws IOException {
        epochs();
        members();
        assignments();
        embedded();
        Path target = Path.of(args[0]);
        Files.writeString(target, "[\n" + String.join(",\n", LINES) + "\n]\n");
    }

    private static void epochs() {
        add("group", GroupCoordinatorRecordHelpers.newConsumerGroupEpochRecord("g", 17, 0));
        add("group-hash", GroupCoordinatorRecordHelpers.newConsumerGroupEpochRecord("g", 18, -3));
        add("group-gone", GroupCoordinatorRecordHelpers.newConsumerGroupEpochTombstoneRecord("g"));
        add("target", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentMetadataRecord("g", 17, 0));
        add("target-time", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentMetadataRecord("g", 18, 1700000000123L));
        add("target-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentMetadataTombstoneRecord("g"));
        add("partitions-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupSubscriptionMetadataTombstoneRecord("g"));
        Set<String> topics = new LinkedHashSet<>(List.of("a", "b-\u00e4"));
        add("regex", GroupCoordinatorRecordHelpers.newConsumerGroupRegularExpressionRecord(
            "g", "a|b.*", new ResolvedRegularExpression(topics, 12, 1700000000123L)));
        add("regex-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupRegularExpressionTombstone("g", "a|b.*"));
    }

    private static ConsumerGroupMember.Builder member() {
        return new ConsumerGroupMember.Builder("m")
            .setClientId("client").setClientHost("/10.0.0.1").setRebalanceTimeoutMs(300000)
            .setSubscribedTopicNames(List.of("a")).setSubscribedTopicRegex("");
    }

    private static void members() {
        add("member", GroupCoordinatorRecordHelpers
            .newConsumerGroupMemberSubscriptionRecord("g", member().build()));
        add("member-full", GroupCoordinatorRecordHelpers.newConsumerGroupMemberSubscriptionRecord(
            "g", member().setInstanceId("i").setRackId("r").setServerAssignorName("range")
                .setSubscribedTopicRegex("b.*").setSubscribedTopicNames(List.of()).build()));
        ConsumerGroupMemberMetadataValue.ClassicMemberMetadata classic =
            new ConsumerGroupMemberMetadataValue.ClassicMemberMetadata()
                .setSessionTimeoutMs(45000)
                .setSupportedProtocols(List.of(
                    new ConsumerGroupMemberMetadataValue.ClassicProtocol()
                        .setName("range").setMetadata(new byte[] {1, 2, 3}),
                    new ConsumerGroupMemberMetadataValue.ClassicProtocol()
                        .setName("sticky").setMetadata(new byte[0])));
        add("member-classic", GroupCoordinatorRecordHelpers
            .newConsumerGroupMemberSubscriptionRecord("g",
                member().setClassicMemberMetadata(classic).build()));
        add("member-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupMemberSubscriptionTombstoneRecord("g", "m"));
    }

    private static Map<Integer, Integer> held(int... partitionsAndEpochs) {
        Map<Integer, Integer> held = new LinkedHashMap<>();
        for (int i = 0; i < partitionsAndEpochs.length; i += 2) {
            held.put(partitionsAndEpochs[i], partitionsAndEpochs[i + 1]);
        }
        return held;
    }

    private static void assignments() {
        Map<Uuid, Set<Integer>> parts = new LinkedHashMap<>();
        parts.put(ONE, new LinkedHashSet<>(List.of(0, 1)));
        parts.put(TWO, new LinkedHashSet<>(List.of(7)));
        add("target-member", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentRecord("g", "m", parts));
        add("target-member-empty", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentRecord("g", "m", Map.of()));
        add("target-member-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupTargetAssignmentTombstoneRecord("g", "m"));
        Map<Uuid, Map<Integer, Integer>> assigned = new LinkedHashMap<>();
        assigned.put(ONE, held(0, 3, 1, 5));
        Map<Uuid, Map<Integer, Integer>> revoking = new LinkedHashMap<>();
        revoking.put(TWO, held(7, 2));
        add("current", GroupCoordinatorRecordHelpers.newConsumerGroupCurrentAssignmentRecord("g",
            member().setMemberEpoch(5).setPreviousMemberEpoch(4)
                .setState(MemberState.UNREVOKED_PARTITIONS)
                .setAssignedPartitions(assigned).setPartitionsPendingRevocation(revoking)
                .build()));
        add("current-gone", GroupCoordinatorRecordHelpers
            .newConsumerGroupCurrentAssignmentTombstoneRecord("g", "m"));
    }

    private static void embedded() {
        List<TopicPartition> owned =
            List.of(new TopicPartition("a", 0), new TopicPartition("a", 1));
        for (short version = 0; version <= 3; version++) {
            Subscription subscription = new Subscription(List.of("a", "b"),
                java.nio.ByteBuffer.wrap(new byte[] {9, 9}), owned, 4,
                java.util.Optional.of("rack"));
            value("subscription", version,
                Utils.toArray(ConsumerProtocol.serializeSubscription(subscription, version)));
            value("assignment", version, Utils.toArray(
                ConsumerProtocol.serializeAssignment(new Assignment(owned), version)));
        }
    }

    private static void value(String kind, short version, byte[] bytes) {
        LINES.add(String.format("{\"kind\":\"%s\",\"version\":%d,\"value\":\"%s\"}", kind, version,
            HexFormat.of().formatHex(bytes)));
    }

    private static void add(String kind, CoordinatorRecord record) {
        byte[] value = SERDE.serializeValue(record);
        LINES.add(String.format("{\"kind\":\"%s\",\"key\":\"%s\"%s}", kind,
            HexFormat.of().formatHex(SERDE.serializeKey(record)),
            value == null ? "" : ",\"value\":\"" + HexFormat.of().formatHex(value) + "\""));
    }
}
