//! The settings of the public side: contracts, the feed, its hub and its clients. Declared once, as in `fields`.

use crate::settings::Field;
use crate::settings::FieldType as T;

pub const CONTRACTS: &[Field] = &[
    Field::new(
        "path",
        T::Text,
        "",
        "Folder with the contracts: files *.toml, beside their schemas and examples. Absent: no contracts.",
    ),
    Field::new(
        "cloudevents_type",
        T::Text,
        "{type}",
        "Attribute type of CloudEvents with a contract; \"{type}.v{version}\" includes the version.",
    ),
    Field::new(
        "dataschema",
        T::Text,
        "",
        "Attribute dataschema of these CloudEvents, for example \"https://example.org/contracts/{type}/{version}/schema.json\". \
        Absent: none.",
    ),
];

/// The settings of a `[[contracts]]` entry, except its versions.
pub const CONTRACT: &[Field] = &[
    Field::required("type", T::Text, "The type of the event, as it is recorded."),
    Field::new("owner", T::Text, "", "The owner of the contract, for readers."),
];

/// The settings of a `[[contracts.versions]]` entry, except its casts.
pub const CONTRACT_VERSION: &[Field] = &[
    Field::required("version", T::Integer(1, 10_000), "The number of the version, from 1."),
    Field::required("schema", T::Text, "File with the JSON Schema of the payload, in the folder of the contracts."),
    Field::new("examples", T::Text, "", "Folder with example payloads as files *.json; each is checked and cast."),
    Field::new(
        "state",
        T::Choice(&["draft", "active", "deprecated", "brownout", "retired"]),
        "",
        "State of the version. Absent: active, or deprecated if a deprecation is given below.",
    ),
    Field::new("allow", T::TextMap, "", "Findings of `outboxd contracts check --against` to accept, each with the reason."),
    Field::table("deprecated", DEPRECATED, "Deprecation of the version."),
];

pub const DEPRECATED: &[Field] = &[
    Field::new("since", T::Text, "", "The day of the announcement, such as \"2026-03-01\"."),
    Field::new("sunset", T::Text, "", "The day from which the version may be retired."),
    Field::new("successor", T::Integer(1, 10_000), "", "The version to move to."),
    Field::new("link", T::Text, "", "A page about the migration."),
];

pub const FEED: &[Field] = &[
    Field::new("events", T::TextList, "", "Event types of the feed; \"*\" stands for any characters. Absent: there is no feed."),
    Field::new(
        "start",
        T::Choice(&["auto", "beginning", "now"]),
        "auto",
        "Where a new feed starts; auto: at the beginning of a new outbox, now in an existing one.",
    ),
    Field::new("listen", T::Text, "", "Address of /v1/feed, for example \"0.0.0.0:9188\"; \"\": not served by this instance."),
    Field::new(
        "certificate",
        T::Text,
        "",
        "Certificate chain (PEM) for TLS at this address, read again by a reload; needs certificate_key. Absent: HTTP in the clear.",
    ),
    Field::new("certificate_key", T::Secret, "", "Private key (PEM) of certificate."),
    Field::new("source", T::Text, "outboxd", "Source of the CloudEvents, a URI reference."),
    Field::new(
        "max_wait",
        T::Duration,
        "45s",
        "Longest that a request may wait for an event; shorter than what proxies on the way wait for an answer.",
    ),
    Field::new(
        "heartbeat",
        T::Duration,
        "15s",
        "Pause between two comments on a stream without events; must be shorter than the timeouts of proxies.",
    ),
    Field::new("max_connections", T::Integer(1, 1_000_000), "10000", "Maximum number of connections, over all clients."),
    Field::new("memory", T::Bytes, "16MiB", "Bytes of recorded events to keep in memory for clients at the end of the feed."),
    Field::new(
        "origins",
        T::TextList,
        "",
        "Origins of web pages that may read the feed, for example \"https://shop.example.org\", or \"*\" for every page (CORS).",
    ),
    Field::new(
        "cursors",
        T::Choice(&["plain", "sealed", "migrating"]),
        "plain",
        "Whether cursors show clients how much happens in the feed: plain, or sealed with cursor_keys; migrating gives sealed ones and still takes plain ones.",
    ),
    Field::new(
        "cursor_keys",
        T::SecretList,
        "",
        "Keys that seal cursors, at least 32 characters each; two while one replaces the other: the first seals, both open.",
    ),
    Field::new(
        "ticket_key",
        T::Secret,
        "",
        "Key that signs tickets and connections of the hub, at least 32 characters. Absent: they are valid only at the instance \
        that made them.",
    ),
];

pub const HUB: &[Field] = &[
    Field::new("path", T::Text, "", "Path of the hub on the listener of the feed, for example \"/hubs/events\"; \"\": no hub."),
    Field::new("keep_alive", T::Duration, "15s", "Time without a message to a client after which the hub sends a ping."),
    Field::new(
        "client_timeout",
        T::Duration,
        "30s",
        "Time without a message from a client, or without progress in sending to it, after which the hub disconnects the client.",
    ),
    Field::new(
        "reconnect_buffer",
        T::Bytes,
        "100kB",
        "Maximum bytes of unacknowledged messages per client (stateful reconnect); the hub sends no more until the client \
        acknowledges.",
    ),
];

pub const ERASURE: &[Field] = &[
    Field::new(
        "ledger",
        T::Text,
        "",
        "File outside of the database that remembers destroyed keys. A relay does not start on a database that holds one of them again, \
         as after the restore of a backup.",
    ),
    Field::new(
        "functions",
        T::TextList,
        "",
        "Functions that forget a person in tables of the application, each with its schema: fn(subject text). They may be called more than \
         once for a person.",
    ),
];

pub const CONSOLE: &[Field] = &[
    Field::new(
        "listen",
        T::Text,
        "",
        "Address of the console and of /api/v1, for example \"127.0.0.1:9189\" or \"unix:/run/outboxd/console.sock\"; \"\": not \
        served. An address that other machines can reach needs tokens or a proxy; without them, a console at a local address \
        shows everything but payloads and changes nothing.",
    ),
    Field::new("path", T::Text, "/", "Path prefix of every page behind a proxy, for example \"/outboxd\"."),
    Field::new(
        "hosts",
        T::TextList,
        "",
        "Host names of the console, for example \"outboxd.internal\", besides localhost and IP addresses; requests for other \
        names are refused.",
    ),
    Field::new(
        "redact",
        T::TextList,
        "",
        "Fields of payloads and headers that the console never shows, for example \"customer.email\"; \"*\" stands for any name.",
    ),
    Field::table("proxy", CONSOLE_PROXY, "A proxy in front of the console that authenticates its users."),
];

const CONSOLE_PROXY: &[Field] = &[
    Field::new(
        "trusted",
        T::TextList,
        "",
        "Addresses or networks of the proxy, or \"unix\" for every process that can open the socket; headers from other peers \
        are ignored.",
    ),
    Field::new(
        "user_header",
        T::Text,
        "",
        "Header with the name of the user, for example \"X-Forwarded-User\"; the proxy must remove it from requests of clients.",
    ),
    Field::new("groups_header", T::Text, "X-Forwarded-Groups", "Header with the groups of the user, separated by commas."),
    Field::new("groups", T::TextMap, "", "The role of each group: read, operate or admin. A user in none of them has no access."),
    Field::new("payload_groups", T::TextList, "", "Groups whose users may see payloads and headers."),
];

/// The settings of a `[[console.tokens]]` entry.
pub const CONSOLE_TOKEN: &[Field] = &[
    Field::required("name", T::Text, "Name of the operator or program in the audit: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required(
        "role",
        T::Choice(&["read", "operate", "admin"]),
        "read shows everything but payloads; operate also replays, discards, pauses and acknowledges; admin also moves \
        positions and reloads.",
    ),
    Field::new("payload", T::Boolean, "false", "Also allow payloads and headers of events; no role includes them."),
    Field::required("sha256", T::Secret, "SHA-256 of the token, 64 hexadecimal digits; `outboxd console token` prints both."),
];

/// The settings of a `[[clients]]` entry.
pub const CLIENT: &[Field] = &[
    Field::required("name", T::Text, "Name of the client in metrics and logs: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required(
        "tokens",
        T::SecretList,
        "Tokens for Authorization: Bearer, two during a rotation. \"sha256:<64 hexadecimal digits>\" stands for a token without \
        showing it.",
    ),
    Field::new(
        "events",
        T::TextList,
        "",
        "Event types that the client may read; \"order.placed@1\" pins the version of a contract. Absent: every type of the feed.",
    ),
    Field::new(
        "where_headers",
        T::ScalarMap,
        "",
        "Headers that an event must have with exactly this text or boolean; the client gets no other events.",
    ),
    Field::new("handlers", T::TextList, "", "Handlers whose state of an event the client may ask for. Absent: none."),
    Field::new(
        "cursors",
        T::TextList,
        "",
        "Names under which it may leave its cursor to the server, for example [\"main\"]. Absent: it keeps its cursor itself.",
    ),
    Field::new("max_connections", T::Integer(1, 1_000_000), "20", "Maximum number of open requests of the client."),
    Field::new(
        "rate",
        T::Text,
        "",
        "Maximum rate of requests, per s, min or h, at each instance; further requests get the answer 429. Absent: no limit.",
    ),
    Field::new(
        "burst",
        T::Integer(1, 1_000_000),
        "",
        "With a rate: requests that the client may make at once after a pause. Absent: one second's worth.",
    ),
];
