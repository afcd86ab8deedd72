//! What a hostile peer finds, and how long it goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zeo_proto::Oid;

use super::wire::{Ended, Wire, let_a_moment_pass};

/// What a hostile peer finds.
pub(crate) struct Field<'a> {
    /// Where the server listens.
    pub(crate) address: String,
    /// Objects of a kilobyte.
    pub(crate) small: &'a [Oid],
    /// Objects of a megabyte.
    pub(crate) large: &'a [Oid],
    strikes: AtomicU64,
    is_over: AtomicBool,
}

impl<'a> Field<'a> {
    pub(crate) fn new(address: &str, small: &'a [Oid], large: &'a [Oid]) -> Self {
        let (strikes, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { address: address.to_owned(), small, large, strikes, is_over }
    }

    /// Whether the attack goes on.
    pub(crate) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }

    /// Calls the attack off.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// The attacker has done once what it is there for.
    pub(crate) fn strike(&self) {
        self.strikes.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was.
    pub(crate) fn strikes(&self) -> u64 {
        self.strikes.load(Ordering::SeqCst)
    }
}

/// Repeats it until it is over; what became of the last is what became of the peer. An error does
/// not keep it from trying again.
pub(crate) fn again(field: &Field<'_>, mut attack: impl FnMut() -> Result<(), Ended>) -> Ended {
    loop {
        let fate = attack();
        field.strike();
        if !field.goes_on() {
            return fate.err().unwrap_or_else(|| TOLERATED.to_owned());
        }
    }
}

/// The same; the last answer is what became of the peer.
pub(crate) fn answered(
    field: &Field<'_>,
    mut attack: impl FnMut() -> Result<Ended, Ended>,
) -> Ended {
    let mut last = String::new();
    let end = again(field, || {
        last = attack()?;
        Ok(())
    });
    if end == TOLERATED { last } else { end }
}

/// Is there.
pub(crate) fn idle(field: &Field<'_>) -> Ended {
    again(field, || {
        let_a_moment_pass();
        Ok(())
    })
}

pub(crate) fn flood(field: &Field<'_>, block: &[u8]) -> Ended {
    match Wire::connect(field).flood(field, block) {
        Ok(()) => TOLERATED.to_owned(),
        Err(end) => end,
    }
}

/// What becomes of a peer that hurts only itself.
pub(crate) const TOLERATED: &str = "tolerated";
