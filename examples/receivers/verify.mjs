// Verifies a webhook of outboxd: node verify.mjs SECRET BODY_FILE, the three headers in the environment as a server gives them.
// Needs the official library: npm install standardwebhooks
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const [secret, file] = process.argv.slice(2);
const body = readFileSync(file, "utf8"); // the body as it came, before anything parses it
const headers = {};
for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
  headers[name] = process.env[name.toUpperCase().replaceAll("-", "_")];
}
try {
  console.log(new Webhook(secret).verify(body, headers));
} catch (error) {
  console.error(`refused: ${error.message}`);
  process.exit(1);
}
