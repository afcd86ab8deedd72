//! See [`zeo_proto::fuzzing::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zeo_proto::fuzzing::frames(data));
