//! A server of somebody else's as a child process.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is asked to end when this is dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts it, and waits until it answers on that port.
    pub(super) fn start(command: &mut Command, port: u16) -> Result<Self, String> {
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Self(silent.spawn().map_err(|error| not_started(&error))?);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE || process.0.try_wait().unwrap().is_some() {
                return Err("does not start".to_owned());
            }
            thread::yield_now();
        }
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both take an interrupt for "stop now, in order"; it may have ended by itself.
        let _: Result<(), _> = kill_process(Pid::from_child(&self.0), Signal::INT);
        drop(self.0.wait());
    }
}

/// Why a program could not be run.
pub(super) fn not_started(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "not installed".to_owned();
    }
    error.to_string()
}

/// A port of the loopback address that nobody listens on.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const PATIENCE: Duration = Duration::from_secs(10);
