//! The test of the test: with a rule left out, some seed must fail, and soon.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::life;
use crate::quiet::Quiet;
use crate::rules::{RULES, Rules};
use crate::seeds::{say, variable};

#[test]
fn leaving_out_the_seal_is_noticed() {
    is_noticed("seal");
}

#[test]
fn leaving_out_invalidations_is_noticed() {
    is_noticed("invalidate");
}

#[test]
fn telling_of_a_part_of_a_commit_is_noticed() {
    is_noticed("whole invalidation");
}

#[test]
fn telling_of_a_commit_after_its_writer_is_noticed() {
    is_noticed("publish unsplit");
}

#[test]
fn loading_what_is_not_published_is_noticed() {
    is_noticed("load only what is published");
}

#[test]
fn committing_a_name_twice_is_noticed() {
    is_noticed("a name is committed once");
}

#[test]
fn leaving_out_the_fence_is_noticed() {
    is_noticed("fence");
}

#[test]
fn leaving_out_the_syncs_is_noticed() {
    is_noticed("durable before the reply");
}

#[test]
fn moving_last_tid_before_the_invalidations_is_noticed() {
    is_noticed("invalidate before last_tid");
}

#[test]
fn applying_pushes_during_the_verification_is_noticed() {
    is_noticed("queue during the verification");
}

#[test]
fn forgetting_pushes_during_the_verification_is_noticed() {
    is_noticed("keep what was queued");
}

#[test]
fn caching_what_is_only_voted_on_is_noticed() {
    is_noticed("cache after the finish");
}

#[test]
fn sending_a_lost_commit_again_unasked_is_noticed() {
    is_noticed("ask before sending again");
}

#[test]
fn letting_go_of_locks_without_a_word_is_noticed() {
    is_noticed("hand locks over");
}

#[test]
fn r19_handing_locks_to_who_has_gone_is_noticed() {
    is_noticed("no locks for who has gone");
}

#[test]
fn letting_go_of_locks_with_the_vote_is_noticed() {
    is_noticed("keep locks until the finish");
}

#[test]
fn ignoring_locks_in_one_round_trip_is_noticed() {
    is_noticed("respect locks in one round trip");
}

#[test]
fn checking_before_what_came_before_is_noticed() {
    is_noticed("check behind what came before");
}

#[test]
fn undoing_over_what_came_in_between_is_noticed() {
    is_noticed("undo conflicts");
}

/// With the seal alone, what applications read is right without the guard. Not so the reverse: what
/// is not sealed is also remembered as hot.
#[test]
fn leaving_out_the_seal_and_the_guard_is_noticed_by_applications() {
    is_noticed("seal and guard, unwatched");
}

/// For the table in CONTRIBUTING.md: how many of the first `ZEO_CENSUS` seeds notice each rule.
#[test]
fn census() {
    let Some(seeds) = variable("ZEO_CENSUS") else { return };
    let _quiet = Quiet::new();
    for (name, _) in RULES {
        let rules = Rules::without(name);
        let found: Vec<u64> = (0..seeds).filter(|&seed| fails(seed, rules)).collect();
        let first = found.first().map_or_else(|| "never".to_owned(), ToString::to_string);
        say(&format!("| {name} | {} of {seeds} | {first} |", found.len()));
    }
}

fn is_noticed(name: &str) {
    let rules = Rules::without(name);
    let quiet = Quiet::new();
    let found = (0..SEEDS).any(|seed| fails(seed, rules));
    drop(quiet);
    assert!(found, "without the rule {name:?}, all of {SEEDS} seeds hold");
}

fn fails(seed: u64, rules: Rules) -> bool {
    catch_unwind(AssertUnwindSafe(|| life::run(seed, rules))).is_err()
}

/// Every rule must be noticed by one of so many.
const SEEDS: u64 = 1_000;
