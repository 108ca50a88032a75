# Verifies a webhook of outboxd: python3 verify.py SECRET BODY_FILE, the three headers in the environment as a server gives them.
# Needs the official library: pip install standardwebhooks
import os
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

secret, body = sys.argv[1], open(sys.argv[2], "rb").read()
headers = {name: os.environ[name.upper().replace("-", "_")] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
try:
    event = Webhook(secret).verify(body, headers)  # the body as it came, before anything parses it
except WebhookVerificationError as error:
    sys.exit(f"refused: {error}")
print(event)
