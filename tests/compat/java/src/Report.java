import java.time.Duration;
import java.util.Timer;
import java.util.TimerTask;

/** Runs steps one by one and prints one JSON line for each; a step that hangs ends the program. */
final class Report {
    /** What a step does; it fails by throwing. */
    interface Step {
        String run() throws Exception;
    }

    private static final Duration STEP_DEADLINE = Duration.ofSeconds(45);

    private Report() {}

    static void step(String name, Step step) {
        Timer watchdog = new Timer(true);
        watchdog.schedule(new TimerTask() {
            @Override
            public void run() {
                line(name, "false", "no end within " + STEP_DEADLINE.toSeconds() + " s");
                Runtime.getRuntime().halt(3);
            }
        }, STEP_DEADLINE.toMillis());
        try {
            String detail = step.run();
            watchdog.cancel();
            line(name, "true", detail);
        } catch (Throwable failure) {
            watchdog.cancel();
            line(name, "false", describe(failure));
        }
    }

    /** The exception with its causes, on one line. */
    static String describe(Throwable failure) {
        StringBuilder text = new StringBuilder();
        for (Throwable at = failure; at != null; at = at.getCause()) {
            if (text.length() > 0) {
                text.append(" <- ");
            }
            text.append(at.getClass().getSimpleName()).append(": ").append(at.getMessage());
        }
        return text.toString();
    }

    static void check(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }

    static <T> void same(String what, T expected, T found) {
        if (!java.util.Objects.equals(expected, found)) {
            throw new IllegalStateException(what + " is " + found + ", expected " + expected);
        }
    }

    static synchronized void line(String name, String ok, String detail) {
        System.out.println("{\"step\":" + quote(name) + ",\"ok\":" + ok
                + ",\"detail\":" + quote(detail == null ? "" : detail) + "}");
        System.out.flush();
    }

    static String quote(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || c > 0x7e) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
