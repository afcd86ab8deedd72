//! `PostgreSQL` with prepared statements, driven by its own `pgbench`.
//!
//! It refuses to run as root; then it runs as nobody.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Process, free_port, not_started};
use super::{OBJECTS, Peer};
use crate::plan::Plan;

/// A server with one table.
#[derive(Debug)]
pub(super) struct Postgres {
    port: u16,
    /// Ends before its files.
    _process: Process,
    dir: tempfile::TempDir,
}

impl Postgres {
    pub(super) fn start(plan: &Plan) -> Result<Self, String> {
        let (dir, port) = (plan.scratch(), free_port());
        if is_root() {
            let own = std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY));
            own.map_err(|error| error.to_string())?;
        }
        let data = dir.path().join("data");
        output(unprivileged("initdb").args(["-A", "trust", "-U", "zeo", "-D"]).arg(&data))?;
        let mut command = unprivileged("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        let postgres = Self { port, _process: Process::start(&mut command, port)?, dir };
        postgres.create()?;
        Ok(postgres)
    }

    fn create(&self) -> Result<(), String> {
        let create = "CREATE TABLE objects (id int PRIMARY KEY, data text)";
        let fill = format!(
            "INSERT INTO objects SELECT id, repeat('7', 1024) FROM generate_series(1, {OBJECTS}) id"
        );
        let mut command = self.client("psql");
        command.args(["-v", "ON_ERROR_STOP=1"]);
        output(command.args(["-c", create, "-c", &fill, "-c", "VACUUM ANALYZE", "postgres"]))?;
        Ok(())
    }

    /// Transactions a second of that many clients.
    fn bench(&self, slice: Duration, clients: usize, statement: &str) -> f64 {
        let script = self.dir.path().join("script");
        let text = format!("\\set id random(1, {OBJECTS})\n{statement} WHERE id = :id;\n");
        std::fs::write(&script, text).unwrap();
        let (clients, seconds) = (clients.to_string(), slice.as_secs().max(1).to_string());
        let mut command = self.client("pgbench");
        command.args(["-n", "-M", "prepared", "-c", &clients, "-T", &seconds, "-f"]);
        let report = output(command.arg(script).arg("postgres")).unwrap();
        let rate = report.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        rate.expect("pgbench says it").parse().unwrap()
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-U", "zeo", "-p", &self.port.to_string()]);
        command
    }
}

impl Peer for Postgres {
    fn commits(&self, slice: Duration, clients: usize) -> f64 {
        self.bench(slice, clients, "UPDATE objects SET data = repeat('8', 1024)")
    }

    fn loads(&self, slice: Duration, clients: usize) -> f64 {
        self.bench(slice, clients, "SELECT data FROM objects")
    }
}

/// A program that runs as somebody who is not root.
fn unprivileged(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    command.args(ids).args(["--clear-groups", program]).current_dir(Path::new("/"));
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a program prints when it succeeds.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("failed").to_owned())
}

const NOBODY: u32 = 65_534;
