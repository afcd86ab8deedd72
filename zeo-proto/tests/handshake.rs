//! The frames of the handshake: their bytes, what must be in them, and what may.

use zeo_proto::{
    ClientConnection, ClientEvent, Greeting, Hello, Identity, Refusal, RefusalReason,
    ServerConnection, ServerEvent, Tid, Versions, Welcome, WireError, fuzzing, refuse, welcome,
};

use crate::golden::hex;

#[test]
fn a_greeting_has_these_bytes() {
    let mut out = Vec::new();
    ServerConnection::new(Greeting::default()).greet(&mut out);
    assert_eq!(out, hex(GREETING));
}

#[test]
fn a_hello_has_these_bytes() {
    let mut asking = Hello::new("main").unwrap();
    asking.label = "demo".to_owned();
    asking.known = Some(IDENTITY);
    asking.last_tid = Some(TID);
    asking.read_only = true;
    asking.features = 5;
    let bytes = "0000004b 7a656f 0001 01 0004 6d61696e 02 0004 64656d6f \
        03 0018 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 0000000000000003 04 0008 1112131415161718 \
        05 0004 00000001 06 0008 0000000000000005";
    assert_eq!(sent(asking.clone()), hex(bytes));
    assert_eq!(fuzzing::server_events([hex(bytes).as_slice()]), [ServerEvent::Hello(asking)]);
}

#[test]
fn a_welcome_has_these_bytes() {
    let mut out = Vec::new();
    welcome(&session(), &mut out);
    assert_eq!(out, hex(WELCOME));
}

#[test]
fn refusals_have_these_bytes() {
    let other = Identity { uuid: [0xcc; 16], epoch: 1 };
    for (reason, bytes) in [
        (RefusalReason::Malformed, "0000000b 7a656f 01 0001 01 0002 6e6f"),
        (RefusalReason::VersionUnsupported, "0000000b 7a656f 01 0002 01 0002 6e6f"),
        (RefusalReason::UnknownStorage, "0000000b 7a656f 01 0003 01 0002 6e6f"),
        (
            RefusalReason::OtherDatabase { known: IDENTITY, here: other },
            "00000041 7a656f 01 0004 01 0002 6e6f \
             02 0018 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 0000000000000003 \
             03 0018 cccccccccccccccccccccccccccccccc 0000000000000001",
        ),
        (RefusalReason::TooManySessions, "0000000b 7a656f 01 0005 01 0002 6e6f"),
        (RefusalReason::Stopping, "0000000b 7a656f 01 0006 01 0002 6e6f"),
        (RefusalReason::ReadOnly, "0000000b 7a656f 01 0007 01 0002 6e6f"),
        (RefusalReason::Other(999), "0000000b 7a656f 01 03e7 01 0002 6e6f"),
    ] {
        let refusal = Refusal { reason, text: "no".to_owned() };
        let mut out = Vec::new();
        refuse(&refusal, &mut out);
        assert_eq!(out, hex(bytes), "{reason:?}");
        assert_eq!(answered(&hex(bytes)), ClientEvent::Refused(refusal));
    }
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let greeting = hex("0000000e 4d35 7a656f 0001 0001 c8 0002 abcd");
    assert_eq!(fuzzing::client_events([greeting.as_slice()]), [ClientEvent::Greeted]);
    let hello = hex("00000011 7a656f 0001 00 0000 01 0001 6d 07 0002 abcd");
    let asking = Hello::new("m").unwrap();
    assert_eq!(fuzzing::server_events([hello.as_slice()]), [ServerEvent::Hello(asking)]);
    let mut longer = hex(WELCOME);
    longer[3] += 4;
    longer.extend(hex("ff 0001 ab"));
    assert_eq!(answered(&longer), ClientEvent::Welcomed(session()));
}

#[test]
fn a_greeting_may_offer_either_encoding_of_zeo_5() {
    let greeting = hex(GREETING.replace("4d35", "5a35").as_str());
    assert_eq!(fuzzing::client_events([greeting.as_slice()]), [ClientEvent::Greeted]);
}

#[test]
fn a_hello_that_is_wrong_breaks_the_connection() {
    let storage = "01 0001 6d";
    for (fields, error) in [
        ("", WireError::FieldMissing(1)),
        ("01 0000", WireError::FieldLength { tag: 1, found: 0, min: 1, max: 255 }),
        ("01 0001 ff", WireError::FieldNotText(1)),
        ("01 0002 6d", WireError::HandshakeCut("a field")),
        ("01 00", WireError::HandshakeCut("a field")),
        ("01 0001 6d 01 0001 6d", WireError::FieldTwice(1)),
        ("03 0001 6d", WireError::FieldLength { tag: 3, found: 1, min: 24, max: 24 }),
        ("04 0000", WireError::FieldLength { tag: 4, found: 0, min: 8, max: 8 }),
        ("05 0001 00", WireError::FieldLength { tag: 5, found: 1, min: 4, max: 4 }),
        ("06 0001 00", WireError::FieldLength { tag: 6, found: 1, min: 8, max: 8 }),
    ] {
        let storage = if fields.starts_with("01") || fields.is_empty() { "" } else { storage };
        let hello = framed(&format!("7a656f 0001 {storage} {fields}"));
        let events = fuzzing::server_events([hello.as_slice()]);
        assert_eq!(events, [ServerEvent::Broken(error)], "{fields}");
    }
}

#[test]
fn an_answer_that_is_wrong_breaks_the_connection() {
    for (answer, error) in [
        ("7a656f", WireError::HandshakeCut("the kind of answer")),
        ("7a656f 02", WireError::AnswerKind(2)),
        ("7a656f 00", WireError::FieldMissing(1)),
        ("7a656f 01 00", WireError::HandshakeCut("the code")),
        ("7a656f 01 0004", WireError::FieldMissing(2)),
        ("52414e44", WireError::NotZeo("RAND".to_owned())),
        ("", WireError::NotZeo(String::new())),
    ] {
        assert_eq!(answered(&framed(answer)), ClientEvent::Broken(error), "{answer}");
    }
}

#[test]
fn a_stranger_is_named_by_how_it_begins() {
    let http = [&hex("0000001a")[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    let error = WireError::NotZeo("GET / HT".to_owned());
    assert_eq!(fuzzing::server_events([http.as_slice()]), [ServerEvent::Broken(error)]);
    let raw = fuzzing::server_events([&http[4..]]);
    assert!(matches!(raw.as_slice(), [ServerEvent::Broken(WireError::FrameTooLong { .. })]));
}

#[test]
fn names_have_their_bounds() {
    Hello::new("").unwrap_err();
    Hello::new(&"s".repeat(256)).unwrap_err();
    let mut asking = Hello::new(&"s".repeat(255)).unwrap();
    asking.label = "é".repeat(200);
    let events = fuzzing::server_events([sent(asking.clone()).as_slice()]);
    asking.label = "é".repeat(127);
    assert_eq!(events, [ServerEvent::Hello(asking)]);
}

#[test]
fn a_server_cannot_switch_on_what_the_client_does_not_know() {
    let mut asking = Hello::new("main").unwrap();
    asking.features = 0b011;
    let mut client = ClientConnection::new(asking);
    let mut input = hex(GREETING);
    welcome(&Welcome { features: 0b110, ..session() }, &mut input);
    client.receive(&input);
    assert_eq!(client.poll(), Some(ClientEvent::Greeted));
    let welcome = Welcome { features: 0b010, ..session() };
    assert_eq!(client.poll(), Some(ClientEvent::Welcomed(welcome)));
}

#[test]
fn the_highest_common_version_is_chosen() {
    let ours = Versions { lowest: 3, highest: 5 };
    let common = |lowest, highest| ours.common(Versions { lowest, highest }).ok();
    assert_eq!(common(1, 2), None);
    assert_eq!(common(1, 3), Some(3));
    assert_eq!(common(4, 4), Some(4));
    assert_eq!(common(4, 9), Some(5));
    assert_eq!(common(6, 9), None);
    assert_eq!(common(5, 4), None, "a range that is none");
}

/// What a client makes of this hello.
fn sent(hello: Hello) -> Vec<u8> {
    let mut client = ClientConnection::new(hello);
    client.receive(&hex(GREETING));
    assert_eq!(client.poll(), Some(ClientEvent::Greeted));
    let mut out = Vec::new();
    client.take_output(&mut out);
    out
}

/// What a client that has been greeted makes of this answer.
fn answered(answer: &[u8]) -> ClientEvent {
    let mut events = fuzzing::client_events([hex(GREETING).as_slice(), answer]);
    assert_eq!(events.len(), 2);
    events.remove(1)
}

/// The frame that holds these bytes.
fn framed(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    zeo_proto::write_frame(&hex(text), &mut out).unwrap();
    out
}

fn session() -> Welcome {
    Welcome {
        identity: IDENTITY,
        last_tid: TID,
        features: 0,
        max_frame: 64 << 20,
        max_transaction: 1 << 30,
        max_calls: 256,
    }
}

const GREETING: &str = "00000009 4d35 7a656f 0001 0001";
const WELCOME: &str = "0000004e 7a656f 00 \
    01 0018 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 0000000000000003 02 0008 1112131415161718 \
    03 0008 0000000000000000 04 0004 04000000 05 0008 0000000040000000 06 0004 00000100";
const TID: Tid = Tid::new(0x1112_1314_1516_1718);
const IDENTITY: Identity = Identity {
    uuid: [
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae,
        0xaf,
    ],
    epoch: 3,
};
