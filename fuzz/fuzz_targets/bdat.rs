//! See `syncmx_fuzz::bdat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::bdat(input));
