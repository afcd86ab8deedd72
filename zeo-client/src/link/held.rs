//! What a client's reactor holds, counted, so that a simulation can see that nothing leaks.

use super::State;

/// How much a client's reactor has under way; all of it is zero when nobody waits for anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Calls in flight on the present connection.
    pub calls: usize,
    /// Loads that somebody waits for.
    pub loads: usize,
    /// Batches of loads.
    pub batches: usize,
    /// Questions.
    pub asks: usize,
    /// Pages of history or of objects.
    pub pages: usize,
    /// Requests for names.
    pub names: usize,
    /// Commits.
    pub commits: usize,
}

impl State {
    /// What is under way now.
    pub fn held(&self) -> Held {
        Held {
            calls: self.calls.len(),
            loads: self.loads.len(),
            batches: self.batches.len(),
            asks: self.asks.len(),
            pages: self.browsing.len(),
            names: self.oids.len(),
            commits: self.commits.len(),
        }
    }
}
