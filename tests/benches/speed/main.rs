//! How fast it is, beside its references measured in the same run.
//!
//! `cargo bench -p zeo-tests --bench speed` prints one table. Each subject is measured in several
//! rounds that alternate with those of its references, so that whatever else the machine does meets
//! all of them; a figure is the median of its rounds, with the lowest and the highest behind it. A
//! machine's absolute figures are of little use on another, the ratios are.
//!
//! Arguments, behind `--`: `--quick` takes fewer, shorter rounds and fewer objects, `--peers` adds
//! other databases where they are installed, `--dir=PATH` says where files are written; any other
//! word chooses the subjects with it in their name.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints, and fails by panicking"
)]

mod commit;
mod cpus;
mod crowd;
mod load;
mod machine;
mod measure;
mod past;
mod peers;
mod plan;
mod raw_link;
mod reactor;
mod reference;
mod reopen;
mod served;
mod store;
mod table;

use plan::Plan;
use table::Row;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == reopen::ROLE).is_some() {
        return reopen::live_until_killed(arguments);
    }
    if arguments.next_if(|first| first == past::ROLE).is_some() {
        return past::measure_inside(arguments);
    }
    let plan = Plan::new(arguments);
    println!("{}\n\n{}", machine::describe(&plan.dir), table::HEAD);
    for (name, measure) in SUBJECTS {
        if plan.includes(name) {
            for row in measure(&plan) {
                println!("{row}");
            }
        }
    }
}

/// What is measured together, under the name by which it is chosen.
type Subject = (&'static str, fn(&Plan) -> Vec<Row>);

/// Idle sessions come first: later, the process has memory to spare in which they would not show.
const SUBJECTS: [Subject; 16] = [
    ("idle sessions", crowd::idle),
    ("load, in cache", load::cached),
    ("load, cold", load::cold),
    ("batch load", load::batch),
    ("served loads, pipelined", served::pipelined),
    ("served loads, one at a time", served::one_at_a_time),
    ("served loads, one a millisecond", served::now_and_then),
    ("durable commits, 1 caller", commit::one_caller),
    ("durable commits, 64 callers", commit::many_callers),
    ("commits in two phases", commit::two_phases),
    ("durable commits of 100 objects", commit::many_objects),
    ("reopening", reopen::reopening),
    ("store by itself", past::inside_the_storage),
    ("invalidation", crowd::invalidation),
    ("reactor", reactor::reactor),
    ("peers", peers::peers),
];
