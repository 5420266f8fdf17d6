import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A group whose partitions the broker gives out (KIP-848): a second member comes, commits, and goes. */
final class ConsumerProtocolSteps {
    private static final int PARTITIONS = 4;
    private final Clients clients;
    private final String topic;
    private final String group;

    ConsumerProtocolSteps(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("consumer-protocol");
        this.group = clients.topic("consumer-protocol-g");
    }

    void run() {
        Report.step("group-consumer-protocol", this::share);
    }

    private String share() throws Exception {
        clients.create(topic, PARTITIONS);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int p = 0; p < PARTITIONS; p++) {
            records.add(new ProducerRecord<>(topic, p, null, DataSet.bytes("record")));
        }
        clients.send(Map.of(), records);
        List<KafkaConsumer<byte[], byte[]>> members = new ArrayList<>();
        try {
            members.add(member());
            await(members, List.of(PARTITIONS));
            members.add(member());
            await(members, List.of(2, 2));
            var found = Clients.get(clients.admin.describeConsumerGroups(List.of(group)).all()).get(group);
            Report.same("the number of members", 2, found.members().size());
            members.remove(1).close(Duration.ofSeconds(10));
            await(members, List.of(PARTITIONS));
            // What the second member had not committed comes again to the first.
            members.get(0).seekToBeginning(members.get(0).assignment());
            Clients.read(members.get(0), PARTITIONS);
            members.get(0).commitSync(Duration.ofSeconds(10));
            var offsets = Clients.get(clients.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            Report.same("the committed partitions", PARTITIONS, offsets.size());
            return "assignor " + found.partitionAssignor();
        } finally {
            members.forEach(member -> member.close(Duration.ofSeconds(5)));
        }
    }

    private KafkaConsumer<byte[], byte[]> member() {
        KafkaConsumer<byte[], byte[]> consumer = clients.consumer(Map.of("group.id", group, "group.protocol", "consumer"));
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static void await(List<KafkaConsumer<byte[], byte[]>> members, List<Integer> sizes) {
        Clients.until("assigned", () -> {
            members.forEach(member -> member.poll(Duration.ofMillis(100)));
            return sizes(members).equals(sizes);
        }, () -> "partitions per member: " + sizes(members) + ", expected " + sizes);
    }

    private static List<Integer> sizes(List<KafkaConsumer<byte[], byte[]>> members) {
        return members.stream().map(member -> member.assignment().size()).toList();
    }
}
