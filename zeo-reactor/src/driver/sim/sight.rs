//! What can be seen of a world from outside, for a trace that somebody reads.

use std::fmt;

use super::World;
use crate::Time;

/// Something that happens in a world. Hosts are told by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sight<'a> {
    /// A connection that was asked for is made, or nobody listens there.
    Knock {
        /// Who asked for it.
        from: &'a str,
        /// Where it was to go.
        to: &'a str,
        /// Whether somebody listens.
        heard: bool,
    },
    /// Bytes arrive.
    Bytes {
        /// Numbers one direction of one connection.
        stream: u64,
        /// Who sent them.
        from: &'a str,
        /// Where they arrive.
        to: &'a str,
        /// Some of what was written, cut anywhere.
        data: &'a [u8],
    },
    /// An end hears that the other has closed.
    Closed {
        /// Who has closed.
        from: &'a str,
        /// Who hears of it.
        to: &'a str,
        /// Whether what it had not read was thrown away.
        reset: bool,
    },
    /// An end is broken.
    Broken {
        /// Where.
        at: &'a str,
        /// With whom it was connected.
        peer: &'a str,
    },
    /// A thread of a stage works a job.
    Work {
        /// Whose stage.
        host: &'a str,
        /// Which one.
        stage: &'a str,
    },
    /// The result of a job reaches its reactor.
    Result {
        /// Whose stage.
        host: &'a str,
        /// Which one.
        stage: &'a str,
    },
}

/// Who looks at a world. It is called while the world is locked, and must not ask it anything.
pub(super) type Observer = Box<dyn FnMut(Time, Sight<'_>) + Send>;

impl World {
    /// Shows everything that happens from now on to `observer`, which must not ask the world
    /// anything. It has no influence on what happens.
    pub fn observe(&self, observer: impl FnMut(Time, Sight<'_>) + Send + 'static) {
        self.lock().observer = Some(Box::new(observer));
    }
}

impl fmt::Display for Sight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Knock { from, to, heard: true } => write!(f, "{from} → {to}: connects"),
            Self::Knock { from, to, heard: false } => write!(f, "{from} → {to}: nobody listens"),
            Self::Bytes { from, to, data, .. } => write!(f, "{from} → {to}: {} bytes", data.len()),
            Self::Closed { from, to, reset: false } => write!(f, "{from} → {to}: closed"),
            Self::Closed { from, to, reset: true } => write!(f, "{from} → {to}: reset"),
            Self::Broken { at, peer } => write!(f, "{at}: the connection with {peer} breaks"),
            Self::Work { host, stage } => write!(f, "{host}: {stage} works"),
            Self::Result { host, stage } => write!(f, "{host}: {stage} is done"),
        }
    }
}
