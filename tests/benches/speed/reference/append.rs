//! Plain files: one writer that syncs each append, and a log that syncs once for all who wait.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Condvar, Mutex};

/// Appends to a file that grows, with a sync each.
#[derive(Debug)]
pub(crate) struct Append {
    file: File,
    bytes: Vec<u8>,
}

impl Append {
    pub(crate) fn new(dir: impl AsRef<Path>, len: usize) -> Self {
        Self { file: create(dir.as_ref(), "append"), bytes: vec![7; len] }
    }

    pub(crate) fn once(&self) {
        (&self.file).write_all(&self.bytes).unwrap();
        self.file.sync_data().unwrap();
    }
}

/// Appends with one sync for all who wait: the least that durable commits of many callers cost.
#[derive(Debug)]
pub(crate) struct GroupLog {
    state: Mutex<State>,
    synced: Condvar,
    file: File,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Groups begun, and groups synced.
    current: u64,
    done: u64,
    syncing: bool,
}

impl GroupLog {
    pub(crate) fn new(dir: impl AsRef<Path>, len: usize) -> Self {
        let (state, synced) = (Mutex::default(), Condvar::new());
        Self { state, synced, file: create(dir.as_ref(), "log"), bytes: vec![7; len] }
    }

    pub(crate) fn commit(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting.extend_from_slice(&self.bytes);
        let mine = state.current;
        while state.done <= mine {
            if state.syncing {
                state = self.synced.wait(state).unwrap();
                continue;
            }
            state.syncing = true;
            let group = std::mem::take(&mut state.waiting);
            state.current += 1;
            drop(state);
            (&self.file).write_all(&group).unwrap();
            self.file.sync_data().unwrap();
            state = self.state.lock().unwrap();
            state.syncing = false;
            state.done += 1;
            self.synced.notify_all();
        }
    }
}

fn create(dir: &Path, name: &str) -> File {
    OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap()
}
