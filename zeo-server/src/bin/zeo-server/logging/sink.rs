//! Where lines of the log end up: standard error, or a file that can be opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Stderr, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::trouble::{Kind, Trouble};

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogTarget {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl LogTarget {
    /// The file of that name; `-` is standard error.
    pub(crate) fn named(path: PathBuf) -> Self {
        if path == Path::new("-") { Self::Stderr } else { Self::File(path) }
    }
}

/// What is written to, whole lines only as far as that is possible.
#[derive(Debug)]
pub(super) struct Sink {
    output: Output,
    /// The last line was written in part.
    is_torn: bool,
}

#[derive(Debug)]
enum Output {
    Stderr(Stderr),
    File(PathBuf, File),
}

impl Sink {
    /// Opens it.
    pub(super) fn open(target: LogTarget) -> Result<Self, Trouble> {
        let output = match target {
            LogTarget::Stderr => Output::Stderr(io::stderr()),
            LogTarget::File(path) => {
                let file = append_to(&path).map_err(|error| {
                    Trouble::new(Kind::File, format!("log file {}: {error}", path.display()))
                })?;
                Output::File(path, file)
            }
        };
        Ok(Self { output, is_torn: false })
    }

    /// Opens the file anew, after somebody has moved it away. When that fails the old one stays.
    /// Standard error is what it is.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        let Output::File(path, file) = &mut self.output else { return Ok(()) };
        *file = append_to(path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.is_torn = false;
        Ok(())
    }

    /// Writes a line. One that is written in part is ended before the next.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.is_torn = !rest.is_empty();
        }
        Ok(())
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::File(_, file) => file.write(bytes),
        }
    }
}

/// The owner writes, the group may read: there are peers' addresses in it.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_reopened_file_is_a_new_one_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut sink = Sink::open(LogTarget::File(path.clone())).unwrap();
        sink.write(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        sink.write(b"two\n").unwrap();
        sink.reopen().unwrap();
        sink.write(b"three\n").unwrap();
        assert_eq!(fs::read(&moved).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn the_old_file_stays_when_the_new_one_cannot_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut sink = Sink::open(LogTarget::File(path.clone())).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        let error = sink.reopen().unwrap_err();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        sink.write(b"kept\n").unwrap();
        assert_eq!(fs::read(&moved).unwrap(), b"kept\n");
    }

    #[test]
    fn a_line_written_in_part_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = Sink::open(LogTarget::File(path.clone())).unwrap();
        sink.write(b"hal").unwrap();
        sink.is_torn = true;
        sink.write(b"whole\n").unwrap();
        sink.write(b"next\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"hal\nwhole\nnext\n");
    }
}
