//! See `syncmx_fuzz::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::proxy(input));
