//! Fuzzes a configuration: see `outboxd::app::fuzzing::config`. `make fuzz TARGET=config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::config(data));
