import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.AbstractRequest;
import org.apache.kafka.common.requests.InitProducerIdRequest;
import org.apache.kafka.common.requests.InitProducerIdResponse;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;

/**
 * Makes what the console tools are to find: {@code open BOOTSTRAP TOPIC ID} leaves a transaction open, {@code hang
 * BOOTSTRAP TOPIC} a hanging one, {@code streams BOOTSTRAP APPLICATION INPUT OUTPUT} what a Streams application
 * leaves.
 */
public final class ToolHelper {
    private static final int WAIT_MS = 20_000;
    /** Before verification came, a broker took records of a transaction that no coordinator knows. */
    private static final short OLD_PRODUCE = 11;
    private static final long HOUR_MS = 3_600_000;

    private ToolHelper() {}

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "open" -> open(arguments[1], arguments[2], arguments[3]);
            case "hang" -> hang(arguments[1], arguments[2]);
            case "streams" -> streams(arguments[1], arguments[2], arguments[3], arguments[4]);
            default -> throw new IllegalArgumentException("open, hang or streams");
        }
        // Nothing is closed: that would end what is open.
        Runtime.getRuntime().halt(0);
    }

    private static void open(String bootstrap, String topic, String id) {
        KafkaProducer<byte[], byte[]> producer = new Clients(bootstrap, topic).producer(Map.of("transactional.id", id));
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, 0, null, DataSet.bytes("open")));
        producer.flush();
    }

    private static void hang(String bootstrap, String topic) throws Exception {
        String[] address = bootstrap.split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            socket.setSoTimeout(WAIT_MS);
            short init = 4;
            var asked = new InitProducerIdRequestData().setTransactionalId(null).setTransactionTimeoutMs(1000);
            var given = InitProducerIdResponse.parse(call(socket, ApiKeys.INIT_PRODUCER_ID, init,
                    new InitProducerIdRequest.Builder(asked).build(init)), init).data();
            // An hour ago: older than any transaction may become.
            var record = new SimpleRecord(System.currentTimeMillis() - HOUR_MS, DataSet.bytes("hanging"));
            var records = MemoryRecords.withTransactionalRecords(Compression.NONE, given.producerId(),
                    given.producerEpoch(), 0, record);
            var partition = new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records);
            var topics = new ProduceRequestData.TopicProduceDataCollection();
            topics.add(new ProduceRequestData.TopicProduceData().setName(topic).setPartitionData(List.of(partition)));
            var data = new ProduceRequestData().setTransactionalId("tool-helper").setAcks((short) -1).setTimeoutMs(WAIT_MS).setTopicData(topics);
            var done = ProduceResponse.parse(call(socket, ApiKeys.PRODUCE, OLD_PRODUCE,
                    new ProduceRequest(data, OLD_PRODUCE)), OLD_PRODUCE).data();
            short error = done.responses().iterator().next().partitionResponses().get(0).errorCode();
            Report.same("the error code", (short) 0, error);
            System.out.println("producer " + given.producerId());
        }
    }

    private static ByteBufferAccessor call(Socket socket, ApiKeys api, short version, AbstractRequest request)
            throws Exception {
        ByteBuffer bytes = request.serializeWithHeader(new RequestHeader(api, version, "tool-helper", 1));
        DataOutputStream out = new DataOutputStream(socket.getOutputStream());
        out.writeInt(bytes.remaining());
        out.write(bytes.array(), bytes.arrayOffset() + bytes.position(), bytes.remaining());
        out.flush();
        DataInputStream in = new DataInputStream(socket.getInputStream());
        byte[] answer = new byte[in.readInt()];
        in.readFully(answer);
        ByteBuffer buffer = ByteBuffer.wrap(answer);
        ResponseHeader.parse(buffer, api.responseHeaderVersion(version));
        return new ByteBufferAccessor(buffer);
    }

    private static void streams(String bootstrap, String application, String input, String output) throws Exception {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(input).groupBy((key, word) -> word).count().mapValues(n -> "" + n).toStream().to(output);
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("tool-helper").toString());
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.start();
        Clients clients = new Clients(bootstrap, application);
        try (KafkaConsumer<byte[], byte[]> reader = clients.reader(output, 0, Map.of())) {
            Clients.read(reader, 1);
        }
        Clients.until("committed", () -> AdminSteps.quietly(() -> Clients.get(clients.admin
                .listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata())).size() > 1, () -> "nothing is committed");
        // Its member stays in the group: Streams does not leave, and the tool is to remove it.
        streams.close(Duration.ofSeconds(10));
    }
}
