//! Where the journal's files are.

/// The files of one directory.
#[derive(Debug)]
pub struct RealDisk;
