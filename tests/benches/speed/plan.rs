//! What to measure, for how long, and where.

use std::path::PathBuf;
use std::time::Duration;

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How often each side of a comparison is measured.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) slice: Duration,
    /// Objects in the store that is opened after a kill.
    pub(crate) reopened: usize,
    /// Where files are written.
    pub(crate) dir: PathBuf,
    /// Whether other databases are measured too.
    pub(crate) with_peers: bool,
    words: Vec<String>,
}

impl Plan {
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Self {
        let mut plan = Self {
            rounds: 7,
            slice: Duration::from_secs(1),
            reopened: 1_000_000,
            dir: env!("CARGO_TARGET_TMPDIR").into(),
            with_peers: false,
            words: Vec::new(),
        };
        arguments.for_each(|argument| plan.take(argument));
        plan
    }

    fn take(&mut self, argument: String) {
        match argument.as_str() {
            // What cargo tells every benchmark.
            "--bench" => {}
            "--quick" => {
                (self.rounds, self.slice) = (3, Duration::from_millis(200));
                self.reopened = 100_000;
            }
            "--peers" => self.with_peers = true,
            other => match other.strip_prefix("--dir=") {
                Some(dir) => self.dir = dir.into(),
                None if other.starts_with('-') => panic!("there is no option {other}"),
                None => self.words.push(argument),
            },
        }
    }

    /// Whether a subject was asked for.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// A directory for files, gone with what is returned.
    pub(crate) fn scratch(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.dir).unwrap()
    }
}
