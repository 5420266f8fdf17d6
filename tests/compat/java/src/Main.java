import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * The Java client against a broker.
 *
 * <p>{@code run BOOTSTRAP PREFIX} does all steps on topics of that prefix; {@code verify BOOTSTRAP
 * PREFIX...} reads what other clients wrote; {@code read BOOTSTRAP TOPIC FILE} reads a whole topic into a
 * file; {@code murmur2} prints the partitioner's fixture.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        switch (arguments[0]) {
            case "run" -> run(new Clients(arguments[1], arguments[2]));
            case "verify" -> List.of(arguments).subList(2, arguments.length)
                    .forEach(prefix -> verify(new Clients(arguments[1], prefix)));
            case "read" -> read(arguments[1], arguments[2], Path.of(arguments[3]));
            case "murmur2" -> System.out.print(Murmur2Fixture.json());
            default -> throw new IllegalArgumentException("run, verify, read or murmur2");
        }
        System.exit(0);
    }

    private static void run(Clients clients) {
        Map<String, String> environment = System.getenv();
        new AdminSteps(clients).run();
        new ProduceSteps(clients).run();
        new ConsumeSteps(clients).run();
        new GroupSteps(clients).run();
        new ConsumerProtocolSteps(clients).run();
        new TransactionSteps(clients).run();
        optional("ShareSteps", clients);
        new ErrorSteps(clients, "1".equals(environment.get("COMPAT_AUTO_CREATE"))).run();
    }

    /** Steps that only the newest client can be compiled with. */
    private static void optional(String steps, Clients clients) {
        try {
            var constructor = Class.forName(steps).getDeclaredConstructor(Clients.class);
            ((Runnable) constructor.newInstance(clients)).run();
        } catch (ClassNotFoundException older) {
            return;
        } catch (ReflectiveOperationException failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static void read(String bootstrap, String topic, Path file) {
        try {
            TopicReader.read(bootstrap, topic, file);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    /** The step is named after the prefix, which the runner knows the client by. */
    private static void verify(Clients clients) {
        boolean timestamps = !clients.prefix.contains("-notime-");
        Report.step(clients.prefix, () -> {
            for (String codec : DataSet.CODECS) {
                ConsumeSteps.verify(clients, clients.topic(codec), timestamps);
            }
            return null;
        });
    }
}
