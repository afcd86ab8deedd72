//! Opening a store of many objects whose server was killed while it wrote.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use zeo_client::Client;
use zeo_proto::Oid;
use zeo_server::Limits;

use crate::plan::Plan;
use crate::store::{fill, object, serve};
use crate::table::{Aim, Figure, Row, Unit};

/// From the start of the opening until the first load is answered; the operating system has the
/// files in its memory.
pub(crate) fn reopening(plan: &Plan) -> Vec<Row> {
    let dir = plan.scratch();
    Life::begin(dir.path(), plan.reopened).end();
    let millis = (0..plan.rounds).map(|_| {
        let mut life = Life::begin(dir.path(), 0);
        let millis = life.line();
        life.end();
        millis.parse().unwrap()
    });
    let millis = Figure::new(Unit::Millis, millis.collect());
    let what = format!("reopening {} objects after kill -9", plan.reopened);
    vec![Row::alone(what, millis, Aim::AtMost(1_000.0))]
}

/// A server in a process of its own.
struct Life {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Life {
    fn begin(dir: &Path, objects: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).arg(dir).arg(objects.to_string()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, out }
    }

    /// What it says next.
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.out.read_line(&mut line).unwrap() > 0, "it has ended by itself");
        line.trim_end().to_owned()
    }

    /// Kills it in the middle of a commit, when it has made enough of them.
    fn end(mut self) {
        while self.line() != ENOUGH {}
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It has ended, unless the benchmark has failed.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The other process: opens the store, says how many milliseconds that took, and commits until it
/// is killed.
pub(crate) fn live_until_killed(mut arguments: impl Iterator<Item = String>) {
    let (dir, objects) = (arguments.next().unwrap(), arguments.next().unwrap());
    let begun = Instant::now();
    let server = serve(Path::new(&dir), Limits::default());
    let db = Client::connect(&server.url("main")).unwrap();
    drop(db.load(Oid::new(1)));
    println!("{}", begun.elapsed().as_secs_f64() * 1e3);
    let first = fill(&db, objects.parse().unwrap()).into_iter().next();
    for number in 0.. {
        overwrite(&db, first.unwrap_or(Oid::new(1)), number);
        if number == COMMITS {
            println!("{ENOUGH}");
        }
        if begun.elapsed() > LONGEST {
            return;
        }
    }
}

/// Commits new data of a thousand objects.
fn overwrite(db: &Client, first: Oid, number: u64) {
    let mut txn = db.begin().unwrap();
    for index in 0..1_000 {
        txn.store(Oid::new(first.number() + number % 90 * 1_000 + index), object()).unwrap();
    }
    txn.commit().unwrap();
}

/// The first argument of the other process.
pub(crate) const ROLE: &str = "--store-until-killed";
const ENOUGH: &str = "enough";
/// Commits of a thousand objects in each life: more than lie between two checkpoints of the index.
const COMMITS: u64 = 70;
/// Should nobody kill it.
const LONGEST: Duration = Duration::from_mins(3);
