import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Where the real Java client puts keys: the fixture that other partitioners are checked with. */
final class Murmur2Fixture {
    private static final int[] PARTITIONS = {1, 2, 3, 6, 7, 12, 50, 100, 1000};

    private Murmur2Fixture() {}

    /** Text of several lengths (the hash works on groups of four bytes) and bytes with the sign bit set. */
    static List<byte[]> keys() {
        List<byte[]> keys = new ArrayList<>();
        List<String> texts = new ArrayList<>(List.of("a", "ab", "abc", "abcd", "abcde", "key", "user@example.com",
                "gr\u00fc\u00dfe", "\u65e5\u672c\u8a9e", "00000000-0000-0000-0000-000000000000"));
        for (int i = 0; i < 20; i++) {
            texts.add("key-" + i);
        }
        texts.forEach(key -> keys.add(DataSet.bytes(key)));
        for (int length = 1; length <= 9; length++) {
            byte[] high = new byte[length];
            java.util.Arrays.fill(high, (byte) 0xff);
            keys.add(high);
            keys.add(new byte[length]);
        }
        keys.add(DataSet.noise(300));
        return keys;
    }

    static String json() {
        StringBuilder out = new StringBuilder("[\n");
        for (byte[] key : keys()) {
            for (int partitions : PARTITIONS) {
                out.append(out.length() > 2 ? ",\n" : "").append(String.format(
                        "  {\"key_hex\": \"%s\", \"partitions\": %d, \"partition\": %d}",
                        HexFormat.of().formatHex(key), partitions,
                        BuiltInPartitioner.partitionForKey(key, partitions)));
            }
        }
        return out.append("\n]\n").toString();
    }
}
