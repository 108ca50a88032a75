<?php
// Verifies a webhook of outboxd: php verify.php SECRET BODY_FILE, the three headers in the environment as a server gives them.
// Needs nothing but PHP 8.

/** Whether one of the signatures was made with this secret for this id, moment and body, and the moment is not long ago. */
function isGenuine(string $secret, string $id, string $timestamp, string $signatures, string $body): bool
{
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $key = base64_decode(substr($secret, strlen("whsec_")));
    $expected = "v1," . base64_encode(hash_hmac("sha256", "$id.$timestamp.$body", $key, true));
    $found = false;
    foreach (explode(" ", $signatures) as $signature) {
        $found = hash_equals($expected, $signature) || $found; // takes the same time either way
    }
    return $found;
}

$body = file_get_contents($argv[2]); // as it came, before anything parses it
if (!isGenuine($argv[1], getenv("WEBHOOK_ID"), getenv("WEBHOOK_TIMESTAMP"), getenv("WEBHOOK_SIGNATURE"), $body)) {
    fwrite(STDERR, "refused: no signature of ours, or an old one\n");
    exit(1);
}
echo $body, "\n";
