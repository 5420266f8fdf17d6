/**
 * The Java clients of {@code cargo xtask eos}: {@code transform|mix|streams BOOTSTRAP PREFIX ID PROCESS SEED FILE
 * PROTOCOL}; for streams the file is the folder of its state. They run until SIGTERM; one that was fenced ends
 * with 3, one that cannot go on with 4.
 */
public final class EosMain {
    private EosMain() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("streams")) {
            StreamsApp.run(arguments[1], arguments[2], arguments[3], arguments[6]);
            return;
        }
        Worker worker = new Worker(arguments);
        try {
            switch (arguments[0]) {
                case "transform" -> new Transform(worker).run();
                case "mix" -> new Mix(worker).run();
                default -> throw new IllegalArgumentException("transform, mix or streams");
            }
        } catch (RuntimeException failure) {
            failure.printStackTrace();
            Runtime.getRuntime().halt(Worker.isFenced(failure) ? Worker.FENCED : Worker.BROKEN);
        }
    }
}
