package dlog;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/**
 * Writes golden record batches with the real Kafka, or describes files of batches as it reads them.
 *
 * <p>{@code write <folder>} writes one file a vector and {@code vectors.txt}, what Kafka reads in
 * them. {@code describe <file>…} prints the same description of any files.
 */
public final class Golden {
    private Golden() {}

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("write")) {
            write(Path.of(args[1]));
        } else if (args.length >= 2 && args[0].equals("describe")) {
            for (int i = 1; i < args.length; i++) {
                Path file = Path.of(args[i]);
                Describe.file(file.getFileName().toString(), Files.readAllBytes(file), System.out);
            }
        } else {
            System.err.println("usage: write <folder> | describe <file>...");
            System.exit(2);
        }
    }

    private static void write(Path folder) throws Exception {
        Files.createDirectories(folder);
        Path description = folder.resolve("vectors.txt");
        try (PrintStream out = new PrintStream(Files.newOutputStream(description), false, StandardCharsets.UTF_8)) {
            for (Map.Entry<String, byte[]> vector : Vectors.all().entrySet()) {
                String name = vector.getKey() + ".batch";
                Files.write(folder.resolve(name), vector.getValue());
                Describe.file(name, vector.getValue(), out);
            }
        }
    }
}
