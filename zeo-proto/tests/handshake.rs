//! The frames of the handshake: what must be in them, and what may.

use zeo_proto::{
    ClientConnection, ClientEvent, Greeting, Hello, Identity, Refusal, RefusalReason,
    ServerConnection, ServerEvent, Tid, Versions, Welcome, WireError, fuzzing, refuse, welcome,
};

use crate::golden::hex;

#[test]
fn the_highest_common_version_is_chosen() {
    let ours = Versions { lowest: 3, highest: 5 };
    let common = |lowest, highest| ours.common(Versions { lowest, highest }).ok();
    assert_eq!(common(1, 2), None);
    assert_eq!(common(1, 3), Some(3));
    assert_eq!(common(4, 4), Some(4));
    assert_eq!(common(4, 9), Some(5));
    assert_eq!(common(6, 9), None);
}

#[test]
fn a_greeting_may_say_more_than_is_known() {
    let more =
        "00000011 4d35 7a656f 0001 0001 00 0000 c8 0002 abcd".replace("00000011", "00000011");
    assert_eq!(fuzzing::client_events([hex(&more).as_slice()]), [ClientEvent::Greeted]);
}
