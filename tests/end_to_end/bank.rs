//! The bank of the client's examples, on a real daemon with two storages.

use std::process::Command;

use crate::daemon::{Daemon, example};

#[test]
fn a_bank_in_two_storages_keeps_its_books() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--listen", "127.0.0.1:0", "--storage", "checking", "--storage", "savings"];
    let daemon = Daemon::start_with(dir.path(), &options);
    let urls = ["checking", "savings"].map(|name| format!("zeo://{}/{name}", daemon.address));
    let mut transfers = 0;
    for _ in 0..2 {
        let bank = Command::new(example("zeo-client", "bank")).args(&urls).output().unwrap();
        let said = String::from_utf8(bank.stdout).unwrap();
        assert!(bank.status.success(), "{said}{}", String::from_utf8_lossy(&bank.stderr));
        assert!(said.contains("and 20000 in both databases together"), "{said}");
        assert!(said.contains("took back") && said.contains("still 20000 together"), "{said}");
        let count: u32 = said.split(' ').next().unwrap().parse().unwrap();
        // What was taken back is a transfer as well.
        assert_eq!(count, transfers + 100);
        transfers = count + 1;
    }
}
