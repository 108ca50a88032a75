//! Fuzzes a signature, a secret and a body: see `outboxd::app::fuzzing::signature`. `make fuzz TARGET=signature`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::signature(data));
