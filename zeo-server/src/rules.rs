//! The ordering rules, which a simulation can leave out to see whether it would notice.

/// Which ordering rules hold. All of them, always; only a simulation makes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A loaded revision is ended at the first commit that its load did not see.
    pub seal: bool,
    /// Everybody else hears of a commit.
    pub invalidate: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { seal: true, invalidate: true }
    }
}
