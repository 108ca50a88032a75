//! Fuzzes the envelope of an event: see `outboxd::app::fuzzing::envelope`. `make fuzz TARGET=envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::envelope(data));
