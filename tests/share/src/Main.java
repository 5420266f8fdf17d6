/**
 * The Java share consumer against a broker (KIP-932).
 *
 * <p>{@code steps BOOTSTRAP PREFIX} plays single situations; {@code worker BOOTSTRAP GROUP TOPIC SEED}
 * processes records until it is stopped, and prints what it does; {@code prepare BOOTSTRAP TOPIC PARTITIONS
 * GROUP} makes a topic and a group that begins with its first record; {@code send BOOTSTRAP TOPIC COUNT} sends
 * numbered records; {@code lag BOOTSTRAP GROUP} prints start offset and lag of each partition.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "steps" -> new ShareSteps(arguments[1], arguments[2]).run();
            case "worker" -> new ShareWorker(arguments[1], arguments[2], arguments[3],
                    Long.parseUnsignedLong(arguments[4])).run();
            case "prepare" -> {
                Share.topic(arguments[1], arguments[2], Integer.parseInt(arguments[3]));
                Share.set(arguments[1], arguments[4], "share.auto.offset.reset", "earliest");
            }
            case "send" -> Share.send(arguments[1], arguments[2], Integer.parseInt(arguments[3]));
            case "lag" -> Share.lag(arguments[1], arguments[2])
                    .forEach((partition, lag) -> System.out.println(partition + " " + lag));
            default -> throw new IllegalArgumentException("steps, worker, prepare, send or lag");
        }
        System.exit(0);
    }
}
