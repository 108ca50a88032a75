// Verifies a webhook of outboxd: java Verify.java SECRET BODY_FILE, the three headers in the environment as a server gives them.
// Needs nothing but Java 17.
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Verify {
    /** Whether one of the signatures was made with this secret for this id, moment and body, and the moment is not long ago. */
    static boolean isGenuine(String secret, String id, String timestamp, String signatures, byte[] body) throws GeneralSecurityException {
        long seconds;
        try {
            seconds = Long.parseLong(timestamp);
        } catch (NumberFormatException error) {
            return false;
        }
        if (Math.abs(Instant.now().getEpochSecond() - seconds) > 300) {
            return false;
        }
        byte[] key = Base64.getDecoder().decode(secret.substring("whsec_".length()));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
        boolean found = false;
        for (String signature : signatures.split(" ")) {
            found |= MessageDigest.isEqual(expected, signature.getBytes(StandardCharsets.UTF_8)); // takes the same time either way
        }
        return found;
    }

    public static void main(String[] arguments) throws Exception {
        byte[] body = Files.readAllBytes(Path.of(arguments[1])); // as it came, before anything parses it
        String id = System.getenv("WEBHOOK_ID"), timestamp = System.getenv("WEBHOOK_TIMESTAMP");
        if (!isGenuine(arguments[0], id, timestamp, System.getenv("WEBHOOK_SIGNATURE"), body)) {
            System.err.println("refused: no signature of ours, or an old one");
            System.exit(1);
        }
        System.out.println(new String(body, StandardCharsets.UTF_8));
    }
}
