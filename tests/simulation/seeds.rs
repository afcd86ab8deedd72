//! The seeds that every test run takes: those that have failed once, fixed ones, and some that
//! differ from commit to commit. And what is said when one fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;

use crate::life::{self, Summary};
use crate::plan::{Faults, Plan};
use crate::quiet::Quiet;
use crate::rules::Rules;
use crate::trace::Trace;

/// Each has failed once, and holds since.
#[test]
fn seeds_that_have_failed_hold() {
    let kept = KEPT.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in kept {
        let seed = line.split_whitespace().next().expect("a line is not empty");
        hold(seed.parse().expect("a line begins with its seed"));
    }
}

#[test]
fn loads_and_commits_agree_with_the_model() {
    Faults::None.seeds(0).take(FIXED).for_each(hold);
}

#[test]
fn r6_connections_that_break_cost_nothing() {
    Faults::Links.seeds(0).take(FIXED).for_each(hold);
}

#[test]
fn servers_and_clients_that_die_cost_nothing_that_was_acknowledged() {
    Faults::Deaths.seeds(0).take(FIXED).for_each(hold);
}

#[test]
fn servers_that_stop_and_clients_that_come_and_go_cost_nothing() {
    Faults::Stops.seeds(0).take(FIXED).for_each(hold);
}

#[test]
fn disks_that_fail_or_fill_up_cost_nothing_that_was_acknowledged() {
    Faults::Disk.seeds(0).take(FIXED).for_each(hold);
}

/// So that in time more and more seeds are run.
#[test]
fn seeds_of_this_commit_hold() {
    if let Some(first) = commit_number() {
        (first..).take(OF_COMMIT).for_each(hold);
    }
}

#[test]
fn the_same_seed_goes_the_same_way() {
    for seed in 30_000..30_010 {
        let [first, second] = [(); 2].map(|()| life::run(seed, Rules::default()));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn to_look_changes_nothing() {
    for seed in 30_000..30_005 {
        let seen = life::run_traced(seed, Rules::default(), &Trace::default());
        assert_eq!(seen, life::run(seed, Rules::default()), "seed {seed}");
    }
}

/// Runs the seed in `ZEO_SEED`, for looking at a failure; with `ZEO_TRACE`, shows so many lines of
/// its trace (`all`: all of them), and with `ZEO_WITHOUT`, leaves that rule out.
#[test]
fn replay() {
    let Some(seed) = variable("ZEO_SEED") else { return };
    let without = std::env::var("ZEO_WITHOUT");
    let rules = without.map_or_else(|_| Rules::default(), |name| Rules::without(&name));
    let trace = Trace::default();
    let result = catch_unwind(AssertUnwindSafe(|| life::run_traced(seed, rules, &trace)));
    say(&trace.last(trace_lines()));
    result.map_or_else(|panic| resume_unwind(panic), |_: Summary| ())
}

/// Runs a seed. If it fails, what led there and how to see it again is said.
pub(crate) fn hold(seed: u64) {
    let run = || life::run(seed, Rules::default());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        say(&report(seed));
        resume_unwind(panic);
    }
}

/// The end of the trace of a seed that fails, and how to see it again.
fn report(seed: u64) -> String {
    let (plan, trace) = (Plan::new(seed, Rules::default()), Trace::default());
    let run = || life::run_traced(seed, Rules::default(), &trace);
    let _quiet = Quiet::new();
    let again = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(_) => "it does not fail when it is run again!",
        Err(_) => "",
    };
    format!(
        "{}\n{plan}. {again}\nagain: ZEO_SEED={seed} cargo test -p zeo-tests --test simulation replay\n\
         (with ZEO_TRACE=all: the whole trace; keep the seed in tests/simulation/seeds.txt)",
        trace.last(trace_lines()),
    )
}

/// A number that differs from commit to commit; none outside a repository.
fn commit_number() -> Option<u64> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    u64::from_str_radix(text.get(..8)?, 16).ok()
}

fn trace_lines() -> usize {
    let lines = std::env::var("ZEO_TRACE").unwrap_or_default();
    if lines == "all" { usize::MAX } else { lines.parse().unwrap_or(TRACE_LINES) }
}

/// The number in an environment variable, if it is set.
pub(crate) fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[expect(clippy::print_stderr, reason = "this is for somebody who looks at a failure")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

const KEPT: &str = include_str!("seeds.txt");
/// Seeds of each kind of misfortune: 500 together.
const FIXED: usize = 100;
const OF_COMMIT: usize = 20;
/// Lines of the trace that a failure shows.
const TRACE_LINES: usize = 60;
