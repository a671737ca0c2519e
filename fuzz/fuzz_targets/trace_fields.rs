//! See `syncmx_fuzz::trace_fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::trace_fields(input));
