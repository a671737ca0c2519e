//! See `syncmx_fuzz::header_scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| syncmx_fuzz::header_scan(input));
