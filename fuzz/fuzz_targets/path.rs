//! See `syncmx_fuzz::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::path(input));
