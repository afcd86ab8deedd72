//! What a storage on disk does by itself, without a server: random loads among many objects, and
//! reading all of its history, in a process of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zeo_proto::{Oid, Tid, TxnId, TxnMeta};
use zeo_server::storage::{self, Applied, Commit, Cursor, OpenOptions, Operation, Record, Storage};

use crate::crowd::resident;
use crate::measure;
use crate::plan::Plan;
use crate::store::object;
use crate::table::{Aim, Figure, Row, Unit};

/// Loads of any of the objects, the memory that this takes, and all transactions page by page
/// beside reading the same files. The operating system has them in its memory.
pub(crate) fn inside_the_storage(plan: &Plan) -> Vec<Row> {
    let dir = plan.scratch();
    let rounds = measured_apart(plan, dir.path());
    let column =
        |unit, column: usize| Figure::new(unit, rounds.iter().map(|round| round[column]).collect());
    let what = format!("a load inside the storage, of {} objects", plan.reopened);
    let read = (column(Unit::MegaBytesPerSecond, 4), "reading its files, 1 MiB at once");
    vec![
        Row::alone(format!("{what}, p50"), column(Unit::Micros, 0), Aim::AtMost(5.0)),
        Row::alone(format!("{what}, p99"), column(Unit::Micros, 1), Aim::None),
        Row::alone("memory of that process", column(Unit::MegaBytes, 2), Aim::AtMost(400.0)),
        Row::beside(
            "all transactions, page by page",
            column(Unit::MegaBytesPerSecond, 3),
            read,
            Aim::RatioAtLeast(0.5),
        ),
    ]
}

/// What the other process says, a line each round.
fn measured_apart(plan: &Plan, dir: &Path) -> Vec<Vec<f64>> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let numbers = [plan.reopened, plan.rounds, plan.slice.as_millis().try_into().unwrap()];
    command.arg(ROLE).arg(dir).args(numbers.map(|number| number.to_string()));
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let numbers = |line: String| line.split(' ').map(|number| number.parse().unwrap()).collect();
    let rounds = lines.map(|line| numbers(line.unwrap())).collect();
    assert!(process.wait().unwrap().success());
    rounds
}

/// The other process: fills a storage, and says what was measured in each round.
pub(crate) fn measure_inside(mut arguments: impl Iterator<Item = String>) {
    let dir = PathBuf::from(arguments.next().unwrap());
    let mut number = || arguments.next().unwrap().parse().unwrap();
    let (objects, rounds, slice) = (number(), number(), Duration::from_millis(number()));
    let storage = storage::open(&dir, OpenOptions::new([1; 16])).unwrap();
    fill(&storage, objects);
    // As the server asks: nobody sees beyond what is published.
    let as_of = storage.last_tid();
    let mut random = 1;
    for _ in 0..rounds {
        let oids = std::iter::repeat_with(|| next_random(&mut random) % objects + 1);
        let loads = measure::each(slice, oids.map(Oid::new), |oid| {
            storage.load_before(oid, Tid::MAX, as_of).unwrap();
        });
        let memory = resident() as f64 / 1e6;
        let paged = megabytes_per_second(|| read_history(&storage));
        let plain = megabytes_per_second(|| read_files(&dir.join("journal")));
        println!("{} {} {memory} {paged} {plain}", loads.p50, loads.p99);
    }
}

/// Commits objects a thousand at a time, and does the chores.
fn fill(storage: &impl Storage, objects: u64) {
    for first in (1..=objects).step_by(1_000) {
        let record = |oid| Record::store(Oid::new(oid), None, object().into(), None);
        let commit = Commit {
            id: TxnId::from_bytes(u128::from(first).to_be_bytes()),
            snapshot: Tid::MAX,
            meta: TxnMeta::default(),
            records: (first..(first + 1_000).min(objects + 1)).map(record).collect(),
            read_current: Vec::new(),
            restore: None,
        };
        let answers = storage.apply(&[Operation::Commit(commit)], NOW);
        assert!(matches!(answers[..], [Ok(Applied::Committed(_))]), "{answers:?}");
        while storage.chores().index {
            storage.index_some().unwrap();
        }
        if storage.chores().prepare {
            storage.prepare().unwrap();
        }
    }
}

/// How many bytes it has read.
fn read_history(storage: &impl Storage) -> u64 {
    let (mut bytes, mut next) = (0, Some(Cursor::new(Tid::ZERO)));
    while let Some(from) = next {
        let page = storage.transactions(&from, Tid::MAX, PAGE).unwrap();
        bytes += page.items.iter().map(|item| item.size() as u64).sum::<u64>();
        next = page.next;
    }
    bytes
}

/// The same from the files themselves.
fn read_files(journal: &Path) -> u64 {
    let (mut bytes, mut buffer) = (0, vec![0; PAGE]);
    for entry in fs::read_dir(journal).unwrap() {
        let mut file = File::open(entry.unwrap().path()).unwrap();
        loop {
            let read = file.read(&mut buffer).unwrap();
            bytes += read as u64;
            if read == 0 {
                break;
            }
        }
    }
    bytes
}

fn megabytes_per_second(read: impl FnOnce() -> u64) -> f64 {
    let begun = Instant::now();
    read() as f64 / begun.elapsed().as_secs_f64() / 1e6
}

/// The generator known as xorshift64.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The first argument of the other process.
pub(crate) const ROLE: &str = "--storage-by-itself";
/// Bytes of a page, and of a read.
const PAGE: usize = 1 << 20;
/// 2026-11-21 00:16:36 UTC.
const NOW: u64 = 1_795_220_196_000_000;
