//! What can be wrong with bytes from a peer, or with a message that is to be sent.

use alloc::string::String;

/// Bytes that do not follow the protocol, or a message that does not fit into it.
///
/// From a machine's `Broken` event it is the peer's mistake, and the connection is to be closed;
/// from a function that encodes it is the caller's, and nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A frame is longer than what is allowed here.
    #[error("a frame of {found} bytes, where at most {max} are allowed")]
    FrameTooLong {
        /// The length announced or, when encoding, needed.
        found: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A frame ends before its message's head does.
    #[error("the frame ends within the message's head")]
    HeadCut,
    /// A message's head is longer than any can be.
    #[error("a head of more than {max} bytes")]
    HeadTooLong {
        /// The most that is allowed.
        max: usize,
    },
    /// A message's head is not one of the protocol's; the text says what was found.
    #[error("not a message: {0}")]
    NotAMessage(String),
    /// The tail does not have the length that the head calls for.
    #[error("a tail of {found} bytes, where the head calls for {expected}")]
    TailLength {
        /// What the head calls for.
        expected: usize,
        /// The bytes that follow the head.
        found: usize,
    },
    /// An object's data is longer than what is allowed.
    #[error("an object of {found} bytes, where at most {max} are allowed")]
    ObjectTooLong {
        /// The bytes that follow the head.
        found: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// User, description and extension are too long together.
    #[error("user, description and extension of {found} bytes, where at most {max} are allowed")]
    MetaTooLong {
        /// Their length together, in bytes.
        found: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A count of oids is not one that may be asked for.
    #[error("{found} oids, where 1 to {max} are allowed")]
    OidCount {
        /// The count in the message.
        found: u32,
        /// The most that is allowed.
        max: u32,
    },
    /// A page is asked for that is not as long as one may be.
    #[error("a page of {found}, where 1 to {max} are allowed")]
    PageLength {
        /// The count in the message.
        found: u32,
        /// The most that is allowed.
        max: usize,
    },
    /// The peer's first frame is not that of this protocol; the text is how it begins.
    #[error("not the first frame of a zeo connection: it begins with \"{0}\"")]
    NotZeo(String),
    /// A handshake frame ends within something that must be there.
    #[error("the handshake ends within {0}")]
    HandshakeCut(&'static str),
    /// A handshake frame has a field twice.
    #[error("the handshake has field {0} twice")]
    FieldTwice(u8),
    /// A handshake frame lacks a field.
    #[error("the handshake lacks field {0}")]
    FieldMissing(u8),
    /// A handshake field has a length that it cannot have.
    #[error("field {tag} of the handshake has {found} bytes, where {min} to {max} are expected")]
    FieldLength {
        /// The field.
        tag: u8,
        /// Its length, in bytes.
        found: usize,
        /// The least that is expected.
        min: usize,
        /// The most that is expected.
        max: usize,
    },
    /// A handshake field that holds a text is not UTF-8.
    #[error("field {0} of the handshake is not UTF-8")]
    FieldNotText(u8),
    /// The server's answer is neither a welcome nor a refusal.
    #[error("an answer of kind {0}, where 0 (welcome) or 1 (refused) is expected")]
    AnswerKind(u8),
    /// The two sides have no version of the protocol in common.
    #[error("versions {} to {} of the protocol, where {} to {} are spoken", .theirs.0, .theirs.1, .ours.0, .ours.1)]
    NoCommonVersion {
        /// The lowest and highest version of the peer.
        theirs: (u16, u16),
        /// The lowest and highest version of this side.
        ours: (u16, u16),
    },
}
