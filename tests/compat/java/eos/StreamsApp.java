import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;

/**
 * Kafka Streams, exactly once: a word count over a repartition topic, whose every step is an output because
 * nothing is cached, and a join of two streams within a window of one second of the records' own time.
 */
final class StreamsApp {
    static final Duration WINDOW = Duration.ofSeconds(1);
    /** Longer than any run: what comes late still joins. */
    private static final Duration GRACE = Duration.ofHours(24);

    private StreamsApp() {}

    static void run(String bootstrap, String prefix, String id, String state) throws InterruptedException {
        StreamsBuilder builder = new StreamsBuilder();
        var strings = Serdes.String();
        builder.stream(prefix + "-lines", Consumed.with(strings, strings))
                .flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.with("words", strings, strings))
                .count()
                .mapValues(count -> Long.toString(count))
                .toStream()
                .to(prefix + "-counts", Produced.with(strings, strings));
        KStream<String, String> left = builder.stream(prefix + "-left", Consumed.with(strings, strings));
        KStream<String, String> right = builder.stream(prefix + "-right", Consumed.with(strings, strings));
        left.join(right, (one, other) -> one + "+" + other, JoinWindows.ofTimeDifferenceAndGrace(WINDOW, GRACE),
                StreamJoined.with(strings, strings, strings))
                .to(prefix + "-joined", Produced.with(strings, strings));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(bootstrap, prefix, id, state));
        streams.setUncaughtExceptionHandler(failure -> {
            System.err.println("a thread is replaced: " + failure);
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        CountDownLatch end = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(30));
            end.countDown();
        }));
        streams.start();
        end.await();
    }

    private static Properties settings(String bootstrap, String prefix, String id, String state) {
        Properties all = new Properties();
        all.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + "-streams");
        all.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        all.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        all.put(StreamsConfig.STATE_DIR_CONFIG, state);
        all.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        all.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        all.put(StreamsConfig.RECONNECT_BACKOFF_MAX_MS_CONFIG, 500);
        all.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        all.put(StreamsConfig.mainConsumerPrefix("group.instance.id"), prefix + "-" + id);
        all.put(StreamsConfig.mainConsumerPrefix("session.timeout.ms"), 6000);
        all.put(StreamsConfig.mainConsumerPrefix("heartbeat.interval.ms"), 500);
        return all;
    }
}
