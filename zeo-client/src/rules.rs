//! The ordering rules, which a simulation can leave out to see whether it would notice.

/// Which ordering rules hold. All of them, always; only a simulation makes others.
#[expect(clippy::struct_excessive_bools, reason = "each rule is left out alone")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// An object that changed while its load was on its way does not become current.
    pub guard: bool,
    /// `last_tid` moves after the invalidations up to it were applied.
    pub apply_first: bool,
    /// What is pushed during the verification is applied after it, and not at once.
    pub queue: bool,
    /// What is pushed during the verification is applied, and not forgotten.
    pub keep: bool,
    /// What a transaction writes comes into the cache with the answer, and not with the vote.
    pub cache_finished: bool,
    /// A commit whose answer was lost is asked about before it is sent again.
    pub ask: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            guard: true,
            apply_first: true,
            queue: true,
            keep: true,
            cache_finished: true,
            ask: true,
        }
    }
}
