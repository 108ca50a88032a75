//! Fuzzes a receiver's answer: see `outboxd::app::fuzzing::answer`. `make fuzz TARGET=answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::answer(data));
