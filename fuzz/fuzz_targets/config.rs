//! Fuzzes a configuration: see `outboxd::app::fuzzing::config`. `cargo +nightly fuzz run config fuzz/corpus/config tests/corpus/config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::config(data));
