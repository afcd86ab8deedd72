//! See [`zeo_proto::fuzzing::handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zeo_proto::fuzzing::handshake(data));
