//! Fuzzes the envelope of an event: see `outboxd::app::fuzzing::envelope`. `cargo +nightly fuzz run envelope fuzz/corpus/envelope tests/corpus/envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::envelope(data));
