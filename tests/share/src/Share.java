import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the programs have in common: clients, topics, settings of groups. */
final class Share {
    private Share() {}

    static Admin admin(String bootstrap) {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    static KafkaProducer<String, String> producer(String bootstrap) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("linger.ms", "2");
        // Every record is to arrive, whatever happens to the broker meanwhile.
        settings.put("delivery.timeout.ms", "300000");
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static KafkaShareConsumer<String, String> consumer(String bootstrap, String group, String mode,
            Map<String, String> more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("group.id", group);
        settings.put("share.acknowledgement.mode", mode);
        settings.put("max.poll.records", "50");
        settings.putAll(more);
        return new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static void topic(String bootstrap, String name, int partitions) throws Exception {
        try (Admin admin = admin(bootstrap)) {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        }
    }

    /** Sets settings of a group, given as name and value by turns. */
    static void set(String bootstrap, String group, String... settings) throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        for (int at = 0; at < settings.length; at += 2) {
            changes.add(new AlterConfigOp(new ConfigEntry(settings[at], settings[at + 1]),
                    AlterConfigOp.OpType.SET));
        }
        try (Admin admin = admin(bootstrap)) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
        }
    }

    /** Sends records with the values 0, 1, 2, ... and waits for all of them. */
    static void send(String bootstrap, String topic, int count) throws Exception {
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            List<Future<?>> sent = new ArrayList<>();
            for (int at = 0; at < count; at++) {
                sent.add(producer.send(new ProducerRecord<>(topic, Integer.toString(at))));
                if (at % 50 == 49) {
                    // Slowly, so that whoever reads meets the end of the log now and then.
                    Thread.sleep(20);
                }
            }
            for (Future<?> one : sent) {
                one.get();
            }
        }
    }

    /** Start offset and lag of each partition of the group. */
    static Map<String, String> lag(String bootstrap, String group) throws Exception {
        Map<String, String> lags = new TreeMap<>();
        try (Admin admin = admin(bootstrap)) {
            admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()))
                    .partitionsToOffsetInfo(group).get().forEach((partition, info) -> lags.put(
                            partition.toString(),
                            // Nothing is known of a partition that is only about to be set up.
                            info == null ? "-/?"
                                    : info.startOffset() + "/" + info.lag().map(String::valueOf).orElse("?")));
        }
        return lags;
    }
}
