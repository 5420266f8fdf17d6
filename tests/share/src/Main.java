/**
 * The Java share consumer against a broker (KIP-932).
 *
 * <p>{@code steps BOOTSTRAP PREFIX} plays single situations; {@code worker BOOTSTRAP GROUP TOPIC SEED}
 * processes records until it is stopped, and prints what it does; {@code send BOOTSTRAP TOPIC COUNT} sends
 * numbered records; {@code lag BOOTSTRAP GROUP} prints what is left to do.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "steps" -> new ShareSteps(arguments[1], arguments[2]).run();
            case "worker" -> new ShareWorker(arguments[1], arguments[2], arguments[3],
                    Long.parseLong(arguments[4])).run();
            case "send" -> Share.send(arguments[1], arguments[2], Integer.parseInt(arguments[3]));
            case "lag" -> System.out.println(Share.lag(arguments[1], arguments[2]));
            default -> throw new IllegalArgumentException("steps, worker, send or lag");
        }
        System.exit(0);
    }
}
