//! See [`zeo_proto::fuzzing::server_messages`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zeo_proto::fuzzing::server_messages(data));
