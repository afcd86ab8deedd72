//! Names the machine, without which no figure means anything.

use std::fs;
use std::path::Path;

/// One line about the machine and the file system of a directory.
pub(crate) fn describe(dir: &Path) -> String {
    let cpus = std::thread::available_parallelism().unwrap();
    let (model, file_system) = (cpu_model(), file_system(dir));
    let kernel = line("/proc/sys/kernel/osrelease");
    let busy = line("/proc/loadavg");
    let busy = busy.split(' ').next().unwrap_or_default();
    format!("{model}, {cpus} CPUs, Linux {kernel}, files on {file_system}; load average {busy}")
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown CPU", |(_, name)| name).to_owned()
}

/// The type of the file system that a directory is on: that of the longest mount point above it.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let above = mounts.lines().filter_map(|mount| {
        let mut fields = mount.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((point.len(), kind))
    });
    above.max().map_or("unknown", |(_, kind)| kind).to_owned()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}
