//! The rules that a run may leave out, to see that it is noticed.

use crate::lawless;

/// Which rules hold, of those of every part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) server: zeo_server::Rules,
    pub(crate) client: zeo_client::Rules,
    pub(crate) storage: lawless::Rules,
    /// What the disk was told to make durable survives a power cut.
    pub(crate) durable: bool,
    /// Somebody watches the wire. Without, only what reaches applications counts.
    pub(crate) watched: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            server: zeo_server::Rules::default(),
            client: zeo_client::Rules::default(),
            storage: lawless::Rules::default(),
            durable: true,
            watched: true,
        }
    }
}

impl Rules {
    /// All rules but those of that name.
    pub(crate) fn without(name: &str) -> Self {
        let mut rules = Self::default();
        let (_, leave_out) = RULES.iter().find(|(other, _)| *other == name).expect("a rule");
        leave_out(&mut rules);
        rules
    }
}

type LeaveOut = fn(&mut Rules);

/// Every rule that can be left out.
pub(crate) const RULES: [(&str, LeaveOut); 23] = [
    ("seal", |rules| rules.server.seal = false),
    ("invalidate", |rules| rules.server.invalidate = false),
    ("whole invalidation", |rules| rules.server.whole = false),
    ("publish unsplit", |rules| rules.server.unsplit = false),
    ("load only what is published", |rules| rules.storage.published_only = false),
    ("a name is committed once", |rules| rules.storage.once = false),
    ("fence", |rules| rules.storage.fence = false),
    ("durable before the reply", |rules| rules.durable = false),
    ("invalidate before last_tid", |rules| rules.client.apply_first = false),
    ("queue during the verification", |rules| rules.client.queue = false),
    ("keep what was queued", |rules| rules.client.keep = false),
    ("cache after the finish", |rules| rules.client.cache_finished = false),
    ("ask before sending again", |rules| rules.client.ask = false),
    ("hand locks over", |rules| rules.server.hand_over = false),
    ("no locks for who has gone", |rules| rules.server.only_the_living = false),
    ("keep locks until the finish", |rules| rules.server.keep_locks = false),
    ("respect locks in one round trip", |rules| rules.server.respect_locks = false),
    ("check behind what came before", |rules| rules.server.check_behind = false),
    ("undo conflicts", |rules| rules.storage.undo_conflicts = false),
    ("guard", |rules| rules.client.guard = false),
    ("seal, unwatched", |rules| (rules.server.seal, rules.watched) = (false, false)),
    ("guard, unwatched", |rules| (rules.client.guard, rules.watched) = (false, false)),
    ("seal and guard, unwatched", |rules| {
        (rules.server.seal, rules.client.guard, rules.watched) = (false, false, false);
    }),
];
