//! Messages on their way to a peer: the one place that encodes for a transport.

use bytes::Bytes;
use zeo_proto::{MAX_PAGE, Oid, ServerMessage, Tid};
use zeo_reactor::{ConnId, Context};

/// Writes a message to a connection; one that is gone is ignored.
pub(crate) fn send<S: 'static>(
    cx: &mut Context<S>,
    conn: ConnId,
    message: &ServerMessage,
    tail: &Bytes,
) {
    let Some(transport) = cx.transport(conn) else { return };
    let mut head = Vec::with_capacity(64);
    match zeo_proto::encode_head(message, tail.len(), &mut head) {
        Ok(()) => {
            transport.write(&head);
            transport.write_bytes(tail.clone());
        }
        Err(error) => tracing::error!(%conn, "a message of ours does not fit its frame: {error}"),
    }
}

/// Tells connections of a commit, encoding it once for all of them.
pub(crate) fn invalidate<S: 'static>(
    cx: &mut Context<S>,
    audience: impl Iterator<Item = ConnId>,
    tid: Tid,
    oids: &[Oid],
) {
    let mut frames = None;
    for conn in audience {
        let frames = frames.get_or_insert_with(|| invalidation_frames(tid, oids));
        if let Some(transport) = cx.transport(conn) {
            transport.write_bytes(frames.clone());
        }
    }
}

/// One frame a page; a commit without oids has one page, because it moves the last tid.
fn invalidation_frames(tid: Tid, oids: &[Oid]) -> Bytes {
    let mut frames = Vec::new();
    let mut rest = oids;
    loop {
        let (page, after) = rest.split_at(rest.len().min(MAX_PAGE));
        let message = ServerMessage::Invalidate(tid, page.to_vec(), !after.is_empty());
        zeo_proto::encode_head(&message, 0, &mut frames).expect("a page fits a frame");
        if after.is_empty() {
            return frames.into();
        }
        rest = after;
    }
}
