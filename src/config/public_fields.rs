//! The settings of the public side: contracts, the feed, its hub and its clients. Declared once, as in `fields`.

use crate::settings::Field;
use crate::settings::FieldType as T;

pub const CONTRACTS: &[Field] = &[
    Field::new(
        "path",
        T::Text,
        "",
        "Folder with the contracts: files *.toml, beside their schemas and examples. Absent: there are none.",
    ),
    Field::new(
        "cloudevents_type",
        T::Text,
        "{type}",
        "Attribute type of the CloudEvents of an event that has a contract; \"{type}.v{version}\" shows the version in it.",
    ),
    Field::new(
        "dataschema",
        T::Text,
        "",
        "Attribute dataschema of the same CloudEvents, for example \"https://example.org/contracts/{type}/{version}/schema.json\". Absent: \
         none.",
    ),
];

/// What a `[[contracts]]` entry may say, its versions aside.
pub const CONTRACT: &[Field] = &[
    Field::required("type", T::Text, "The type of the event, as it is recorded."),
    Field::new("owner", T::Text, "", "Who answers for the contract, for people."),
];

/// What a `[[contracts.versions]]` entry may say, its casts aside.
pub const CONTRACT_VERSION: &[Field] = &[
    Field::required("version", T::Integer(1, 10_000), "The number of the version, from 1."),
    Field::required("schema", T::Text, "File with the JSON Schema of the payload, in the folder of the contracts."),
    Field::new("examples", T::Text, "", "Folder with payloads as files *.json; every one is checked and cast."),
    Field::new(
        "state",
        T::Choice(&["draft", "active", "deprecated", "brownout", "retired"]),
        "",
        "Where the version stands in its life. Absent: active, or deprecated if it says so below.",
    ),
    Field::new("allow", T::TextMap, "", "Findings of `outboxd contracts check --against` that readers bear, each with the reason."),
    Field::table("deprecated", DEPRECATED, "That the version comes to an end."),
];

pub const DEPRECATED: &[Field] = &[
    Field::new("since", T::Text, "", "The day of the announcement, such as \"2026-03-01\"."),
    Field::new("sunset", T::Text, "", "The day from which the version may be retired."),
    Field::new("successor", T::Integer(1, 10_000), "", "The version to move to."),
    Field::new("link", T::Text, "", "A page about the migration."),
];

pub const FEED: &[Field] = &[
    Field::new(
        "events",
        T::TextList,
        "",
        "Event types that may leave by the feed; \"*\" stands for any characters. Absent: there is no feed.",
    ),
    Field::new(
        "start",
        T::Choice(&["auto", "beginning", "now"]),
        "auto",
        "Where a feed that is new to the database begins; auto: at the beginning of a new outbox, now in an old one.",
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
        "Between two comments on a stream without events; shorter than what proxies on the way wait.",
    ),
    Field::new("max_connections", T::Integer(1, 1_000_000), "10000", "Connections at once, over all clients."),
    Field::new(
        "memory",
        T::Bytes,
        "16MiB",
        "Bytes of events, as they were recorded, kept for clients that read at the end of the feed.",
    ),
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
        "What cursors are sealed with, 32 characters at least; two while one replaces the other: the first seals, both open.",
    ),
    Field::new(
        "ticket_key",
        T::Secret,
        "",
        "What tickets and connections of the hub are signed with, 32 characters at least. Absent: they are good at the instance that made \
         them only.",
    ),
];

pub const HUB: &[Field] = &[
    Field::new(
        "path",
        T::Text,
        "",
        "Path of the hub on the listener of the feed, for example \"/hubs/events\"; \"\": there is none.",
    ),
    Field::new("keep_alive", T::Duration, "15s", "After this long without a message to a client, a ping is sent to it."),
    Field::new(
        "client_timeout",
        T::Duration,
        "30s",
        "A client that sends nothing, or takes nothing of what is waiting for it, for this long is disconnected.",
    ),
    Field::new(
        "reconnect_buffer",
        T::Bytes,
        "100kB",
        "Bytes of messages kept for a client until it acknowledges them (stateful reconnect); it gets no more before that.",
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
        "Address of the console and of /api/v1, for example \"127.0.0.1:9189\" or \"unix:/run/outboxd/console.sock\"; \"\": not served. An \
         address that other machines can reach needs tokens or a proxy; without them a local one shows everything but payloads, and changes nothing.",
    ),
    Field::new("path", T::Text, "/", "What the path of every page begins with behind a proxy, for example \"/outboxd\"."),
    Field::new(
        "hosts",
        T::TextList,
        "",
        "Names under which it is reached, for example \"outboxd.internal\", beside localhost and IP addresses; requests for other names are \
         refused.",
    ),
    Field::new(
        "redact",
        T::TextList,
        "",
        "Paths in payloads and headers that are shown to nobody, for example \"customer.email\"; \"*\" stands for any name.",
    ),
    Field::table("proxy", CONSOLE_PROXY, "A proxy in front of the console that has signed its users in."),
];

const CONSOLE_PROXY: &[Field] = &[
    Field::new(
        "trusted",
        T::TextList,
        "",
        "Addresses or networks of the proxy, or \"unix\" for whoever can open the socket; headers of others are ignored.",
    ),
    Field::new(
        "user_header",
        T::Text,
        "",
        "Header in which the proxy tells the user, for example \"X-Forwarded-User\"; the proxy must remove it from what clients send.",
    ),
    Field::new("groups_header", T::Text, "X-Forwarded-Groups", "Header with the groups of the user, with commas between them."),
    Field::new("groups", T::TextMap, "", "The role of each group: read, operate or admin. A user in none of them has no access."),
    Field::new("payload_groups", T::TextList, "", "Groups whose users may see payloads and headers."),
];

/// What a `[[console.tokens]]` entry may say.
pub const CONSOLE_TOKEN: &[Field] = &[
    Field::required("name", T::Text, "Names the person or the program in the audit: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required(
        "role",
        T::Choice(&["read", "operate", "admin"]),
        "read sees everything but payloads; operate also replays, discards, pauses and acknowledges; admin also moves positions and reloads.",
    ),
    Field::new("payload", T::Boolean, "false", "Whether payloads and headers of events may be seen; no role includes it."),
    Field::required("sha256", T::Secret, "SHA-256 of the token, 64 hexadecimal digits; `outboxd console token` makes both."),
];

/// What a `[[clients]]` entry may say.
pub const CLIENT: &[Field] = &[
    Field::required("name", T::Text, "Names the client in metrics and logs: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required(
        "tokens",
        T::SecretList,
        "What it sends as Authorization: Bearer; two while one replaces the other. \"sha256:<64 hexadecimal digits>\" stands for a token \
         without showing it.",
    ),
    Field::new(
        "events",
        T::TextList,
        "",
        "Event types that it may see; \"order.placed@1\" pins the version of a contract. Absent: every type of the feed.",
    ),
    Field::new(
        "where_headers",
        T::ScalarMap,
        "",
        "Event headers that must be there with exactly this text or boolean; it sees no others.",
    ),
    Field::new("handlers", T::TextList, "", "Handlers that it may ask about: whether they are done with an event. Absent: none."),
    Field::new(
        "cursors",
        T::TextList,
        "",
        "Names under which it may leave its cursor to the server, for example [\"main\"]. Absent: it keeps its cursor itself.",
    ),
    Field::new("max_connections", T::Integer(1, 1_000_000), "20", "Requests that it may have open at once."),
    Field::new(
        "rate",
        T::Text,
        "",
        "The most requests that it may make, per s, min or h, at each instance; a request above it is answered with 429. Absent: no bound.",
    ),
    Field::new(
        "burst",
        T::Integer(1, 1_000_000),
        "",
        "With a rate: requests that it may make at once after a time without any. Absent: one second's worth.",
    ),
];
