import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** A subscribed group of two: joining, leaving, committing, its lag, its end. */
final class GroupSteps {
    private static final int PARTITIONS = 4;
    private final Clients clients;
    private final String topic;
    private final String group;
    private final List<ConsumerRecord<byte[], byte[]>> seen = new ArrayList<>();
    private KafkaConsumer<byte[], byte[]> first;
    private KafkaConsumer<byte[], byte[]> second;

    GroupSteps(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("group");
        this.group = clients.topic("g");
    }

    void run() {
        try {
            Report.step("group-join", this::join);
            Report.step("group-leave", this::leave);
            Report.step("group-commit", this::commit);
            Report.step("group-list", () -> {
                Clients.until("listed", () -> listed().contains(group), () -> "groups: " + listed());
                return null;
            });
            Report.step("group-describe", this::describe);
            Report.step("group-lag", this::lag);
        } finally {
            close(first);
            close(second);
        }
        Report.step("group-reset-offsets", this::resetOffsets);
        Report.step("group-delete", () -> {
            Clients.get(clients.admin.deleteConsumerGroups(List.of(group)).all());
            Clients.until("gone", () -> !listed().contains(group), () -> "the group is still listed");
            return null;
        });
    }

    private String join() throws Exception {
        clients.create(topic, PARTITIONS);
        produce(10);
        first = member();
        awaitAssignments(Set.of(first), List.of(PARTITIONS));
        second = member();
        awaitAssignments(Set.of(first, second), List.of(2, 2));
        Set<TopicPartition> union = new HashSet<>(first.assignment());
        union.addAll(second.assignment());
        Report.same("the number of partitions assigned", PARTITIONS, union.size());
        return null;
    }

    private String leave() {
        Report.check(second != null, "no second member");
        second.close(Duration.ofSeconds(10));
        second = null;
        awaitAssignments(Set.of(first), List.of(PARTITIONS));
        return null;
    }

    private String commit() throws Exception {
        // What is read here was not committed before, so every record comes again or for the first time.
        first.seekToBeginning(first.assignment());
        Set<String> values = new HashSet<>();
        Clients.until("40", () -> {
            first.poll(Duration.ofMillis(200)).forEach(r -> values.add(r.partition() + "/" + r.offset()));
            return values.size() == 10 * PARTITIONS;
        }, () -> values.size() + " records read");
        first.commitSync(Duration.ofSeconds(10));
        produce(1);
        first.close(Duration.ofSeconds(10));
        first = member();
        List<ConsumerRecord<byte[], byte[]>> rest = Clients.read(first, PARTITIONS);
        Report.same("the number of records after the commit", PARTITIONS, rest.size());
        rest.forEach(r -> Report.same("the offset", 10L, r.offset()));
        return null;
    }

    private String describe() throws Exception {
        var found = Clients.get(clients.admin.describeConsumerGroups(List.of(group)).all()).get(group);
        Report.same("the number of members", 1, found.members().size());
        var member = found.members().iterator().next();
        Report.same("its partitions", PARTITIONS, member.assignment().topicPartitions().size());
        return "assignor " + found.partitionAssignor() + ", host " + member.host();
    }

    private String lag() throws Exception {
        var committed = Clients.get(clients.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        long lag = 0;
        for (int p = 0; p < PARTITIONS; p++) {
            TopicPartition partition = new TopicPartition(topic, p);
            long end = Clients.get(clients.admin.listOffsets(Map.of(partition, OffsetSpec.latest()))
                    .partitionResult(partition)).offset();
            lag += end - committed.get(partition).offset();
        }
        Report.same("the lag", (long) PARTITIONS, lag);
        return null;
    }

    /** The group is empty now: its offsets can be set and removed from outside. */
    private String resetOffsets() throws Exception {
        TopicPartition one = new TopicPartition(topic, 1);
        Clients.get(clients.admin.alterConsumerGroupOffsets(group, Map.of(one, new OffsetAndMetadata(3, "m"))).all());
        var found = Clients.get(clients.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        Report.same("the offset", new OffsetAndMetadata(3, "m"), found.get(one));
        Clients.get(clients.admin.deleteConsumerGroupOffsets(group, Set.of(one)).all());
        found = Clients.get(clients.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        Report.check(!found.containsKey(one), "the offset is still there");
        return null;
    }

    private KafkaConsumer<byte[], byte[]> member() {
        var consumer = clients.consumer(Map.of("group.id", group, "session.timeout.ms", 10_000,
                "heartbeat.interval.ms", 500));
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private void awaitAssignments(Set<KafkaConsumer<byte[], byte[]>> members, List<Integer> sizes) {
        Clients.until("assigned", () -> {
            members.forEach(member -> member.poll(Duration.ofMillis(100)).forEach(seen::add));
            return sizes(members).equals(sizes);
        }, () -> "partitions per member: " + sizes(members) + ", expected " + sizes);
    }

    private static List<Integer> sizes(Set<KafkaConsumer<byte[], byte[]>> members) {
        return members.stream().map(member -> member.assignment().size()).toList();
    }

    private void produce(int perPartition) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int p = 0; p < PARTITIONS; p++) {
            for (int i = 0; i < perPartition; i++) {
                records.add(new ProducerRecord<>(topic, p, null, DataSet.bytes("record " + i)));
            }
        }
        clients.send(Map.of(), records);
    }

    private Set<String> listed() {
        return AdminSteps.quietly(() -> {
            Set<String> names = new HashSet<>();
            Clients.get(clients.admin.listConsumerGroups().all()).forEach(g -> names.add(g.groupId()));
            return names;
        });
    }

    private static void close(KafkaConsumer<byte[], byte[]> consumer) {
        if (consumer != null) {
            consumer.close(Duration.ofSeconds(5));
        }
    }
}
