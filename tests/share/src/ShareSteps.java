import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ShareGroupDescription;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;

/** Single situations of a share group, one step each, on topics and groups of the step's own. */
final class ShareSteps {
    private static final Duration BOUND = Duration.ofSeconds(40);

    private final String bootstrap;
    private final String prefix;

    ShareSteps(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    void run() {
        Report.step("implicit acknowledgement", () -> implicit());
        Report.step("explicit acknowledgement", () -> explicit());
        Report.step("consumers share one partition", () -> sharing());
        Report.step("deliveries are limited", () -> limited());
        Report.step("locks run out", () -> timeout());
        Report.step("locks are renewed", () -> renewed());
        Report.step("record limit", () -> recordLimit());
        Report.step("read committed", () -> committed());
        Report.step("a new group begins at the end", () -> reset());
        Report.step("a closed consumer lets go", () -> closed());
        Report.step("groups are listed and described", () -> described());
        Report.step("offsets are altered and deleted", () -> altered());
    }

    private String name(String what) throws Exception {
        String name = prefix + what;
        Share.topic(bootstrap, name, 1);
        Share.set(bootstrap, name, "share.auto.offset.reset", "earliest");
        return name;
    }

    private void send(String topic, int from, int to) throws Exception {
        try (KafkaProducer<String, String> producer = Share.producer(bootstrap)) {
            for (int at = from; at < to; at++) {
                producer.send(new ProducerRecord<>(topic, Integer.toString(at)));
            }
        }
    }

    private KafkaShareConsumer<String, String> open(String name, String mode, String... more) {
        Map<String, String> settings = new HashMap<>();
        for (int at = 0; at < more.length; at += 2) {
            settings.put(more[at], more[at + 1]);
        }
        KafkaShareConsumer<String, String> consumer = Share.consumer(bootstrap, name, mode, settings);
        consumer.subscribe(List.of(name));
        return consumer;
    }

    /** Polls until a record comes; fails when none does. */
    private static List<ConsumerRecord<String, String>> some(KafkaShareConsumer<String, String> consumer) {
        long until = System.nanoTime() + BOUND.toNanos();
        while (System.nanoTime() < until) {
            List<ConsumerRecord<String, String>> found = new ArrayList<>();
            consumer.poll(Duration.ofMillis(300)).forEach(found::add);
            if (!found.isEmpty()) {
                return found;
            }
        }
        throw new IllegalStateException("no record came");
    }

    private static void nothing(KafkaShareConsumer<String, String> consumer) {
        for (int turn = 0; turn < 3; turn++) {
            Report.same("records", 0, consumer.poll(Duration.ofMillis(300)).count());
        }
    }

    private static void stored(KafkaShareConsumer<String, String> consumer) {
        for (Map.Entry<TopicIdPartition, Optional<KafkaException>> one : consumer.commitSync().entrySet()) {
            one.getValue().ifPresent(failure -> {
                throw failure;
            });
        }
    }

    private static Set<Long> offsets(List<ConsumerRecord<String, String>> records) {
        Set<Long> offsets = new TreeSet<>();
        records.forEach(record -> offsets.add(record.offset()));
        return offsets;
    }

    private String implicit() throws Exception {
        String name = name("implicit");
        send(name, 0, 120);
        Set<Long> seen = new HashSet<>();
        try (KafkaShareConsumer<String, String> consumer = open(name, "implicit")) {
            while (seen.size() < 120) {
                for (ConsumerRecord<String, String> record : some(consumer)) {
                    Report.check(seen.add(record.offset()), record.offset() + " came twice");
                    Report.same("deliveries", Optional.of((short) 1), record.deliveryCount());
                }
            }
            stored(consumer);
        }
        try (KafkaShareConsumer<String, String> consumer = open(name, "implicit")) {
            nothing(consumer);
        }
        return "120 records once each";
    }

    private String explicit() throws Exception {
        String name = name("explicit");
        send(name, 0, 10);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
            List<ConsumerRecord<String, String>> records = some(consumer);
            while (records.size() < 10) {
                records.addAll(some(consumer));
            }
            for (ConsumerRecord<String, String> record : records) {
                consumer.acknowledge(record, switch ((int) (record.offset() % 3)) {
                    case 0 -> AcknowledgeType.ACCEPT;
                    case 1 -> AcknowledgeType.RELEASE;
                    default -> AcknowledgeType.REJECT;
                });
            }
            stored(consumer);
            records = some(consumer);
            Report.same("released", Set.of(1L, 4L, 7L), offsets(records));
            for (ConsumerRecord<String, String> record : records) {
                Report.same("deliveries", Optional.of((short) 2), record.deliveryCount());
                consumer.acknowledge(record);
            }
            stored(consumer);
            nothing(consumer);
        }
        return "accepted and rejected ones stay away, released ones come again";
    }

    private String sharing() throws Exception {
        String name = name("sharing");
        try (KafkaShareConsumer<String, String> a = open(name, "explicit", "max.poll.records", "5");
                KafkaShareConsumer<String, String> b = open(name, "explicit", "max.poll.records", "5")) {
            a.poll(Duration.ofMillis(500));
            b.poll(Duration.ofMillis(500));
            Set<Long> byA = new TreeSet<>();
            Set<Long> byB = new TreeSet<>();
            long until = System.nanoTime() + BOUND.toNanos();
            int sent = 0;
            while ((byA.isEmpty() || byB.isEmpty() || byA.size() + byB.size() < sent)
                    && System.nanoTime() < until) {
                if (byA.isEmpty() || byB.isEmpty()) {
                    send(name, sent, sent + 20);
                    sent += 20;
                }
                drain(a, byA);
                drain(b, byB);
            }
            Report.check(!byA.isEmpty() && !byB.isEmpty(), "one got all: " + byA.size());
            Report.same("records", sent, byA.size() + byB.size());
            byA.retainAll(byB);
            Report.check(byA.isEmpty(), "both got " + byA);
        }
        return "each record went to one of two consumers";
    }

    private static void drain(KafkaShareConsumer<String, String> consumer, Set<Long> into) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
            into.add(record.offset());
            consumer.acknowledge(record);
        }
        stored(consumer);
    }

    private String limited() throws Exception {
        String name = name("limited");
        Share.set(bootstrap, name, "share.delivery.count.limit", "3");
        send(name, 0, 1);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
            for (short delivery = 1; delivery <= 3; delivery++) {
                ConsumerRecord<String, String> record = some(consumer).get(0);
                Report.same("deliveries", Optional.of(delivery), record.deliveryCount());
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                stored(consumer);
            }
            nothing(consumer);
            send(name, 1, 2);
            Report.same("the next one", Set.of(1L), offsets(some(consumer)));
            consumer.poll(Duration.ZERO);
        } catch (IllegalStateException unacknowledged) {
            // The last poll had to find the record of the one before without a word.
            if (!String.valueOf(unacknowledged.getMessage()).contains("acknowledge")) {
                throw unacknowledged;
            }
        }
        return "three deliveries, then never again";
    }

    private String timeout() throws Exception {
        String name = name("timeout");
        Share.set(bootstrap, name, "share.record.lock.duration.ms", "1000");
        send(name, 0, 1);
        try (KafkaShareConsumer<String, String> slow = open(name, "explicit");
                KafkaShareConsumer<String, String> other = open(name, "explicit")) {
            ConsumerRecord<String, String> held = some(slow).get(0);
            ConsumerRecord<String, String> again = some(other).get(0);
            Report.same("offset", held.offset(), again.offset());
            Report.same("deliveries", Optional.of((short) 2), again.deliveryCount());
            slow.acknowledge(held);
            Optional<KafkaException> late = slow.commitSync().values().iterator().next();
            Report.check(late.isPresent(), "a late acknowledgement counts");
            Report.same("late", "InvalidRecordStateException", late.get().getClass().getSimpleName());
            other.acknowledge(again);
            other.commitSync();
        }
        return "what one holds for too long goes to another";
    }

    private String renewed() throws Exception {
        String name = name("renewed");
        Share.set(bootstrap, name, "share.record.lock.duration.ms", "2000");
        send(name, 0, 2);
        try (KafkaShareConsumer<String, String> slow = open(name, "explicit");
                KafkaShareConsumer<String, String> other = open(name, "explicit")) {
            List<ConsumerRecord<String, String>> held = some(slow);
            long until = System.nanoTime() + Duration.ofSeconds(5).toNanos();
            Set<Long> got = new TreeSet<>(offsets(held));
            while (System.nanoTime() < until) {
                held.forEach(record -> slow.acknowledge(record, AcknowledgeType.RENEW));
                stored(slow);
                for (ConsumerRecord<String, String> record : other.poll(Duration.ofMillis(400))) {
                    Report.check(got.add(record.offset()), record.offset() + " went to both");
                    other.acknowledge(record);
                }
                slow.poll(Duration.ZERO);
            }
            held.forEach(slow::acknowledge);
            stored(slow);
        }
        return "renewed for longer than a lock lasts";
    }

    private String recordLimit() throws Exception {
        String name = name("record-limit");
        send(name, 0, 40);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit",
                "share.acquire.mode", "record_limit", "max.poll.records", "7")) {
            Set<Long> seen = new TreeSet<>();
            while (seen.size() < 40) {
                List<ConsumerRecord<String, String>> records = some(consumer);
                Report.check(records.size() <= 7, records.size() + " records at once");
                seen.addAll(offsets(records));
                records.forEach(consumer::acknowledge);
            }
            stored(consumer);
        }
        return "never more than seven at once";
    }

    private String committed() throws Exception {
        String name = name("committed");
        Share.set(bootstrap, name, "share.isolation.level", "read_committed");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of(
                "bootstrap.servers", bootstrap, "transactional.id", name),
                new org.apache.kafka.common.serialization.StringSerializer(),
                new org.apache.kafka.common.serialization.StringSerializer())) {
            producer.initTransactions();
            for (String value : List.of("kept-1", "dropped", "kept-2")) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(name, value));
                producer.flush();
                if (value.startsWith("kept")) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        List<String> values = new ArrayList<>();
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
            while (values.size() < 2) {
                for (ConsumerRecord<String, String> record : some(consumer)) {
                    values.add(record.value());
                    consumer.acknowledge(record);
                }
            }
            stored(consumer);
            nothing(consumer);
        }
        Report.same("values", List.of("kept-1", "kept-2"), values);
        return "what was aborted does not come";
    }

    private String reset() throws Exception {
        String name = prefix + "latest";
        Share.topic(bootstrap, name, 1);
        send(name, 0, 5);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
            assigned(consumer, name);
            nothing(consumer);
            send(name, 5, 8);
            Report.check(some(consumer).get(0).offset() >= 5, "an old record came");
        }
        return "what was there before it does not come";
    }

    /** Polls until the group has given the consumer its partition. */
    private void assigned(KafkaShareConsumer<String, String> consumer, String group) throws Exception {
        long until = System.nanoTime() + BOUND.toNanos();
        try (Admin admin = Share.admin(bootstrap)) {
            while (System.nanoTime() < until) {
                consumer.poll(Duration.ofMillis(300));
                boolean has = admin.describeShareGroups(List.of(group)).all().get().get(group).members()
                        .stream().anyMatch(member -> !member.assignment().topicPartitions().isEmpty());
                if (has) {
                    // It fetches with the next polls, and then the start is chosen.
                    consumer.poll(Duration.ofSeconds(2));
                    return;
                }
            }
        }
        throw new IllegalStateException("no partition was assigned");
    }

    private String closed() throws Exception {
        String name = name("closed");
        send(name, 0, 4);
        KafkaShareConsumer<String, String> first = open(name, "explicit");
        List<ConsumerRecord<String, String>> held = some(first);
        first.acknowledge(held.get(0));
        first.close();
        try (KafkaShareConsumer<String, String> second = open(name, "explicit")) {
            Set<Long> seen = new TreeSet<>();
            while (seen.size() < 3) {
                List<ConsumerRecord<String, String>> records = some(second);
                seen.addAll(offsets(records));
                records.forEach(second::acknowledge);
            }
            Report.same("left over", Set.of(1L, 2L, 3L), seen);
            stored(second);
        }
        return "the accepted one stays away, the others are free at once";
    }

    private String described() throws Exception {
        String name = name("described");
        send(name, 0, 3);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit");
                Admin admin = Share.admin(bootstrap)) {
            some(consumer);
            ListGroupsOptions shares = new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE));
            GroupListing listing = admin.listGroups(shares).all().get().stream()
                    .filter(group -> group.groupId().equals(name)).findFirst().orElseThrow();
            Report.same("state", "STABLE", listing.groupState().orElseThrow().name());
            ShareGroupDescription description =
                    admin.describeShareGroups(List.of(name)).all().get().get(name);
            Report.same("members", 1, description.members().size());
            Report.same("assigned", Set.of(new TopicPartition(name, 0)),
                    description.members().iterator().next().assignment().topicPartitions());
        }
        return "with state, member and assignment";
    }

    private String altered() throws Exception {
        String name = name("altered");
        send(name, 0, 6);
        TopicPartition partition = new TopicPartition(name, 0);
        try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
            Set<Long> seen = new TreeSet<>();
            while (seen.size() < 6) {
                List<ConsumerRecord<String, String>> records = some(consumer);
                seen.addAll(offsets(records));
                records.forEach(consumer::acknowledge);
            }
            stored(consumer);
        }
        try (Admin admin = Share.admin(bootstrap)) {
            Report.same("lag", "0", Share.lag(bootstrap, name).get(partition.toString()).split("/")[1]);
            admin.alterShareGroupOffsets(name, Map.of(partition, 2L)).all().get();
            Report.same("lag", "2/4", Share.lag(bootstrap, name).get(partition.toString()));
            try (KafkaShareConsumer<String, String> consumer = open(name, "explicit")) {
                Report.same("from there", 2L, offsets(some(consumer)).iterator().next());
            }
            admin.deleteShareGroupOffsets(name, Set.of(name)).all().get();
            Report.same("offsets", Map.of(), Share.lag(bootstrap, name));
            admin.deleteShareGroups(List.of(name)).all().get();
            boolean isThere = admin.listGroups().all().get().stream()
                    .anyMatch(group -> group.groupId().equals(name));
            Report.check(!isThere, "the group is still there");
        }
        return "from another offset, from the start, and gone";
    }
}
