//! The fuzz targets over the inputs that are kept.

use std::fs;
use std::path::Path;

use zeo_proto::fuzzing;

#[test]
fn kept_inputs_do_no_harm() {
    over_kept("frames", fuzzing::frames);
    over_kept("handshake", fuzzing::handshake);
    over_kept("client_messages", fuzzing::client_messages);
    over_kept("server_messages", fuzzing::server_messages);
}

fn over_kept(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let kept: Vec<_> = fs::read_dir(corpus).unwrap().collect();
    assert!(!kept.is_empty(), "{name}");
    for file in kept {
        target(&fs::read(file.unwrap().path()).unwrap());
    }
}
