//! The real daemon as a child process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A daemon that is ready. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Where it listens, as it says itself.
    pub(crate) address: String,
}

impl Daemon {
    /// Starts it and waits for its first ready line.
    pub(crate) fn start(data: &Path, listen: &str) -> Self {
        Self::start_with(data, &["--listen", listen])
    }

    /// Starts it with these options.
    pub(crate) fn start_with(data: &Path, options: &[impl AsRef<OsStr>]) -> Self {
        Self::spawn(quiet(data, options))
    }

    /// Starts it as that command says.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let address = ready_line(&mut out);
        Self { child, out, address }
    }

    /// Starts it and kills it when that much time has passed; whether it was ready by then.
    pub(crate) fn start_and_kill(
        data: &Path,
        options: &[impl AsRef<OsStr>],
        moment: Duration,
    ) -> bool {
        let start = Instant::now();
        let mut child = quiet(data, options).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = mpsc::sync_channel(1);
        let listen = move || {
            if out.read_line(&mut String::new()).unwrap() > 0 {
                tell.send(()).unwrap();
            }
            // Only its end lets the other side know that it lives no more.
            out.read_to_string(&mut String::new()).unwrap();
        };
        thread::scope(|scope| {
            scope.spawn(listen);
            let first = told.recv_timeout(moment);
            let then = told.recv_timeout(moment.saturating_sub(start.elapsed()));
            assert_eq!(then, Err(RecvTimeoutError::Timeout), "it ended by itself");
            child.kill().unwrap();
            child.wait().unwrap();
            first.is_ok()
        })
    }

    /// The address of its next ready line.
    pub(crate) fn next_address(&mut self) -> String {
        ready_line(&mut self.out)
    }

    /// What a client connects to.
    pub(crate) fn url(&self) -> String {
        match self.address.strip_prefix("unix:") {
            Some(path) => format!("zeo://{path}?storage=main"),
            None => format!("zeo://{}/main", self.address),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.pid().to_string());
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would: nothing of it runs any more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and says how it ended, what else it printed, and how long that took.
    pub(crate) fn terminate(self) -> (ExitStatus, String, Duration) {
        self.end("TERM")
    }

    /// The same with another signal.
    pub(crate) fn end(mut self, signal: &str) -> (ExitStatus, String, Duration) {
        let start = Instant::now();
        self.signal(signal);
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (status, rest, start.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A daemon that is expected to refuse: its exit code and what it said on standard error. One that
/// starts instead is killed after its ready line.
pub(crate) fn refused(data: &Path, options: &[&str]) -> (Option<i32>, String) {
    let mut child = command(data)
        .args(options)
        .args(["--log-level", "error"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if !line.is_empty() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "", "it says that it is ready");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn quiet(data: &Path, options: &[impl AsRef<OsStr>]) -> Command {
    let mut command = command(data);
    command.args(options).args(["--log-level", "warn"]);
    command
}

/// The daemon with that data directory; it is not told to be quiet.
pub(crate) fn command(data: &Path) -> Command {
    let mut command = Command::new(program("zeo-server", "zeo-server"));
    command.arg("--data").arg(data);
    command
}

/// What the daemon does with these options when it is not to serve: its exit code, standard output
/// and standard error.
pub(crate) fn ask(options: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program("zeo-server", "zeo-server")).args(options).output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, error)
}

/// Where a program of the workspace is, made up to date once per run.
pub(crate) fn program(package: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().unwrap().parent().unwrap().to_owned();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "zeo-server",
            "-p",
            "zeo-tests",
            "-p",
            "zeo-client",
            "--bins",
            "--examples",
        ]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "{package} does not build");
    });
    profile.join(name)
}

/// Where an example of the workspace is, made up to date once per run.
pub(crate) fn example(package: &str, name: &str) -> PathBuf {
    program(package, &format!("examples/{name}"))
}

fn ready_line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.strip_prefix("zeo-server ready on ");
    address.unwrap_or_else(|| panic!("not ready: {line:?}")).trim_end().to_owned()
}
