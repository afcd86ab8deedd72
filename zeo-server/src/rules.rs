//! The ordering rules, which a simulation can leave out to see whether it would notice.

use zeo_proto::Oid;

/// Which ordering rules hold. All of them, always; only a simulation makes others.
#[expect(clippy::struct_excessive_bools, reason = "each rule is left out alone")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A loaded revision is ended at the first commit that its load did not see.
    pub seal: bool,
    /// Everybody else hears of a commit.
    pub invalidate: bool,
    /// They hear of every object of it.
    pub whole: bool,
    /// They hear of it in the turn in which it is published, and its writer answered.
    pub unsplit: bool,
    /// When object locks are let go, those who waited for them go on.
    pub hand_over: bool,
    /// A vote that waits for its locks ends with its session.
    pub only_the_living: bool,
    /// Object locks are kept from the vote to its finish.
    pub keep_locks: bool,
    /// A commit in one round trip waits where others hold its objects.
    pub respect_locks: bool,
    /// A question, or a check, passes no commit that came before it.
    pub check_behind: bool,
}

impl Rules {
    /// What is told of the objects of a commit.
    pub(crate) fn told(self, oids: &[Oid]) -> &[Oid] {
        if self.whole { oids } else { oids.get(1..).unwrap_or_default() }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            seal: true,
            invalidate: true,
            whole: true,
            unsplit: true,
            hand_over: true,
            only_the_living: true,
            keep_locks: true,
            respect_locks: true,
            check_behind: true,
        }
    }
}
