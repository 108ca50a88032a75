//! Fuzzes a receiver's answer: see `outboxd::app::fuzzing::answer`. `cargo +nightly fuzz run answer fuzz/corpus/answer tests/corpus/answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::answer(data));
