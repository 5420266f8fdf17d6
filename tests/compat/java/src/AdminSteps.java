import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics, configs, partitions, deleted records. */
final class AdminSteps {
    private final Clients clients;
    private final String topic;

    AdminSteps(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("admin");
    }

    void run() {
        Report.step("create-topic", () -> {
            clients.create(topic, 3, Map.of("retention.ms", "86400000", "max.message.bytes", "2000000"));
            return null;
        });
        Report.step("list-topics", () -> {
            Clients.until("listed", () -> names().contains(topic), () -> "the topic is not in the list");
            return null;
        });
        Report.step("describe-topic", () -> {
            TopicDescription found = describe();
            Report.same("the number of partitions", 3, found.partitions().size());
            found.partitions().forEach(p -> Report.check(p.leader() != null && p.isr().size() == 1, "no leader: " + p));
            return null;
        });
        Report.step("alter-configs", this::alterConfigs);
        Report.step("describe-configs", this::describeConfigs);
        Report.step("add-partitions", () -> {
            Clients.get(clients.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
            Clients.until("5", () -> partitions() == 5, () -> "there are " + partitions() + " partitions");
            return null;
        });
        Report.step("delete-records", this::deleteRecords);
        Report.step("describe-cluster", () -> {
            var cluster = clients.admin.describeCluster();
            Report.same("the number of brokers", 1, Clients.get(cluster.nodes()).size());
            return "cluster id " + Clients.get(cluster.clusterId());
        });
        Report.step("describe-log-dirs", () -> {
            int node = Clients.get(clients.admin.describeCluster().controller()).id();
            var dirs = Clients.get(clients.admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
            boolean there = dirs.values().stream()
                    .anyMatch(dir -> dir.replicaInfos().containsKey(new TopicPartition(topic, 0)));
            Report.check(there, "no log directory has the topic");
            return null;
        });
        Report.step("delete-topic", () -> {
            Clients.get(clients.admin.deleteTopics(Set.of(topic)).all());
            Clients.until("gone", () -> !names().contains(topic), () -> "the topic is still listed");
            return Clients.fails(UnknownTopicOrPartitionException.class, () -> {
                describe();
                return null;
            });
        });
    }

    private String alterConfigs() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var set = new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET);
        var unset = new AlterConfigOp(new ConfigEntry("max.message.bytes", ""), AlterConfigOp.OpType.DELETE);
        var append = new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND);
        Clients.get(clients.admin.incrementalAlterConfigs(Map.of(resource, List.of(set, unset, append))).all());
        return null;
    }

    private String describeConfigs() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Clients.until("altered", () -> value(resource, "retention.ms").equals("7200000"),
                () -> "retention.ms is " + value(resource, "retention.ms"));
        Report.same("max.message.bytes", "1048588", value(resource, "max.message.bytes"));
        Report.same("cleanup.policy", "delete,compact", value(resource, "cleanup.policy"));
        Config config = Clients.get(clients.admin.describeConfigs(List.of(resource)).all()).get(resource);
        Report.same("the source", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.ms").source());
        int node = Clients.get(clients.admin.describeCluster().controller()).id();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        int count = Clients.get(clients.admin.describeConfigs(List.of(broker)).all()).get(broker).entries().size();
        Report.check(count > 0, "the broker has no configs");
        return config.entries().size() + " topic configs, " + count + " broker configs";
    }

    private String deleteRecords() throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ProducerRecord<byte[], byte[]>> ten = new java.util.ArrayList<>();
        for (int i = 0; i < 10; i++) {
            ten.add(new ProducerRecord<>(topic, 0, DataSet.bytes("k"), DataSet.bytes("v" + i)));
        }
        clients.send(Map.of(), ten);
        var deleted = clients.admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
        Report.same("the low watermark", 4L, Clients.get(deleted.lowWatermarks().get(partition)).lowWatermark());
        var earliest = clients.admin.listOffsets(Map.of(partition, OffsetSpec.earliest()));
        Report.same("the first offset", 4L, Clients.get(earliest.partitionResult(partition)).offset());
        return null;
    }

    private Set<String> names() {
        return quietly(() -> Clients.get(clients.admin.listTopics().names()));
    }

    private TopicDescription describe() throws Exception {
        return Clients.get(clients.admin.describeTopics(Set.of(topic)).allTopicNames()).get(topic);
    }

    private int partitions() {
        return quietly(() -> describe().partitions().size());
    }

    private String value(ConfigResource resource, String name) {
        return quietly(() -> Clients.get(clients.admin.describeConfigs(List.of(resource)).all())
                .get(resource).get(name).value());
    }

    static <T> T quietly(Clients.Call<T> call) {
        try {
            return call.run();
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }
}
