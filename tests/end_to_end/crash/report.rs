//! What happened in the rounds, printed as it goes on and summed up at the end.

use std::time::Duration;

use super::ledger::Verdict;
use super::worker::Tally;

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    rounds: u64,
    tally: Tally,
    /// Revisions that were compared, in all rounds together.
    compared: u64,
    wrong: usize,
    /// How long each start took that was not cut short.
    pub(super) restarts: Vec<Duration>,
    pub(super) killed_starts: u64,
    /// Of these, the ones that were not ready yet.
    pub(super) killed_unready: u64,
    pub(super) lost_indices: u64,
}

impl Report {
    pub(super) fn add(&mut self, tally: Tally) {
        self.tally += tally;
    }

    pub(super) fn end_round(&mut self, verdict: &Verdict, time: Duration) {
        self.rounds += 1;
        self.compared += verdict.revisions;
        self.wrong += verdict.wrong.len();
        let (round, revisions) = (self.rounds, verdict.revisions);
        let acknowledged = self.tally.acknowledged;
        let restart = self.restarts.last().copied().unwrap_or_default();
        print(&format!(
            "round {round}: {acknowledged} commits acknowledged so far, restarted in {restart:.1?}; \
             {revisions} revisions compared in {time:.1?}, {} wrong",
            verdict.wrong.len()
        ));
    }

    pub(super) fn median_restart(&self) -> Option<Duration> {
        let mut restarts = self.restarts.clone();
        restarts.sort();
        restarts.get(restarts.len() / 2).copied()
    }

    pub(super) fn print_sums(&self, title: &str) {
        let Tally { acknowledged, found_committed, found_lost, conflicts, aborted, loads } =
            self.tally;
        let median = self.median_restart().unwrap_or_default();
        let longest = self.restarts.iter().max().copied().unwrap_or_default();
        print(&format!(
            "{title}: {} rounds\n\
             \x20 commits acknowledged   {acknowledged}\n\
             \x20 lost, torn or changed  {}\n\
             \x20 answers lost           {} ({found_committed} were committed, {found_lost} not)\n\
             \x20 conflicts, aborted     {conflicts}, {aborted}\n\
             \x20 loads under load       {loads}\n\
             \x20 revisions compared     {}\n\
             \x20 starts killed          {} ({} of them before they were ready)\n\
             \x20 indices deleted        {}\n\
             \x20 restarts               median {median:.1?}, longest {longest:.1?}",
            self.rounds,
            self.wrong,
            found_committed + found_lost,
            self.compared,
            self.killed_starts,
            self.killed_unready,
            self.lost_indices,
        ));
    }
}

#[expect(clippy::print_stderr, reason = "who runs many rounds by hand wants to see them")]
fn print(text: &str) {
    eprintln!("{text}");
}
