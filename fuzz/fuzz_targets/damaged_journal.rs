//! See [`zeo_server::storage::fuzzing::damaged_journal`].
#![no_main]

use zeo_server::storage::fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::damaged_journal(data));
