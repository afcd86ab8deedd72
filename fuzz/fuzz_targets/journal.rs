//! See [`zeo_server::storage::fuzzing::journal`].
#![no_main]

use zeo_server::storage::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::journal(data));
