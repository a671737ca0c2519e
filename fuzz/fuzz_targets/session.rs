//! See `syncmx_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::session(input));
