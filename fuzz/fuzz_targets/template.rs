//! Fuzzes a template and an event: see `outboxd::app::fuzzing::template`. `make fuzz TARGET=template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outboxd::app::fuzzing::template(data));
