//! Databases in other encodings are refused in plain words, by everything that a person meets first.

use crate::support::{Binary, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_another_encoding_is_refused_with_what_to_do() {
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252"] {
        let database = TestDatabase::in_encoding(encoding).await;
        let binary = Binary::relay(database.url(), "[[handlers]]\nname = \"all\"\nkind = \"discard\"\n");
        for arguments in [&["migrate"][..], &["check", "--connect"], &["doctor"], &["run"], &["run", "--no-migrate"]] {
            let finished = binary.run(arguments).await;
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(!matches!(finished.code, Some(0) | None), "{encoding} {arguments:?}: {finished:?}");
            assert!(said.contains(encoding) && said.contains("outboxd needs UTF8"), "{encoding} {arguments:?}: {said}");
            assert!(said.contains("createdb --encoding=UTF8"), "{encoding} {arguments:?}: {said}");
        }
        assert_eq!(database.count("pg_namespace where nspname = 'outbox'").await, 0, "nothing is touched");
    }
}
