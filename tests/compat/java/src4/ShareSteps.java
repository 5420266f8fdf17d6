import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A share group (KIP-932): each record to one of two members, released, rejected, and given again. */
final class ShareSteps implements Runnable {
    private static final int RECORDS = 20;
    private final Clients clients;
    private final String topic;
    private final String group;

    ShareSteps(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("share");
        this.group = clients.topic("share-g");
    }

    @Override
    public void run() {
        Report.step("share-consume", this::consume);
        Report.step("share-acknowledge", this::acknowledge);
    }

    private KafkaShareConsumer<byte[], byte[]> member(String mode) {
        Map<String, Object> settings = Map.of("bootstrap.servers", clients.bootstrap, "group.id", group,
                "share.acknowledgement.mode", mode, "max.poll.records", 5);
        var member = new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        member.subscribe(List.of(topic));
        return member;
    }

    private void produce(String text, int count) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            records.add(new ProducerRecord<>(topic, 0, null, DataSet.bytes(text + i)));
        }
        clients.send(Map.of(), records);
    }

    /** Two members of one group share one partition. */
    private String consume() throws Exception {
        clients.create(topic, 1);
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
        Clients.get(clients.admin.incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all());
        produce("shared ", RECORDS);
        List<String> values = new ArrayList<>();
        try (var first = member("implicit"); var second = member("implicit")) {
            Clients.until("shared", () -> {
                for (var member : List.of(first, second)) {
                    member.poll(Duration.ofMillis(100)).forEach(r -> values.add(new String(r.value())));
                }
                return values.size() >= RECORDS;
            }, () -> values.size() + " of " + RECORDS + " records came");
            first.commitSync();
            second.commitSync();
        }
        Report.same("the number of records", RECORDS, values.size());
        Report.same("the number of different ones", RECORDS, new TreeSet<>(values).size());
        return null;
    }

    /** What is released comes again, counted; what is accepted or rejected does not. */
    private String acknowledge() throws Exception {
        produce("odd ", 3);
        Set<String> seen = new TreeSet<>();
        try (var member = member("explicit")) {
            Clients.until("acknowledged", () -> {
                for (ConsumerRecord<byte[], byte[]> record : member.poll(Duration.ofMillis(200))) {
                    String value = new String(record.value());
                    int delivery = record.deliveryCount().orElse((short) 0);
                    seen.add(value + " delivery " + delivery);
                    AcknowledgeType type = value.equals("odd 0") ? AcknowledgeType.REJECT
                            : value.equals("odd 1") && delivery == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
                    member.acknowledge(record, type);
                }
                member.commitSync();
                return seen.size() >= 4;
            }, () -> "only " + seen);
        }
        Report.same("what came", Set.of("odd 0 delivery 1", "odd 1 delivery 1", "odd 1 delivery 2", "odd 2 delivery 1"), seen);
        return null;
    }
}
