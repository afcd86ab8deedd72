//! A bank: transfers between accounts, and what there is in all of them stays the same.

use zeo_proto::Oid;
use zeo_server::storage::disk::Random;

use super::{Seen, Step, Workload, create, numbers, only_reads, store};

/// The sum over the accounts of every snapshot is what was there in the beginning.
pub(super) struct Bank;

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn oids(&self) -> Vec<Oid> {
        super::oids(FIRST, ACCOUNTS)
    }

    fn steps(&self, seen: &Seen, random: &mut Random) -> Vec<(Oid, Step)> {
        let Some(accounts) = numbers(seen) else {
            return create(FIRST, (0..ACCOUNTS).map(|_| BALANCE));
        };
        if only_reads(random) {
            return Vec::new();
        }
        let balance = |account: u64| accounts[usize::try_from(account).unwrap()];
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = random.below(balance(from) + 1);
        vec![store(FIRST, from, balance(from) - amount), store(FIRST, to, balance(to) + amount)]
    }

    fn check(&self, seen: &Seen) {
        let Some(accounts) = numbers(seen) else { return };
        let sum: u64 = accounts.iter().sum();
        assert_eq!(sum, ACCOUNTS * BALANCE, "money came or went: {seen:?}");
    }
}

const FIRST: u64 = 201;
const ACCOUNTS: u64 = 6;
const BALANCE: u64 = 100;
