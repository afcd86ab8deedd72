//! A bank whose accounts are in two databases: transfers between them, an audit from their history,
//! and a transfer taken back.
//!
//! ```text
//! zeo-server --storage checking --storage savings &
//! cargo run --example bank -- zeo://127.0.0.1:8100/checking zeo://127.0.0.1:8100/savings
//! ```
//!
//! Without URLs it starts a server of its own. It may be run again and again, also by several at a
//! time.
#![expect(clippy::print_stdout, reason = "it tells what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;

use zeo_client::{
    Client, CommitError, LoadError, NotCommitted, Oid, Tid, TogetherError, Transaction,
    commit_together,
};
use zeo_server::Server;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    let server = Server::builder()
        .memory_storage("checking")
        .memory_storage("savings")
        .listen("127.0.0.1:0".parse()?)
        .start()?;
    let bank = match urls.as_slice() {
        [] => Bank::open(&server.url("checking"), &server.url("savings"))?,
        [checking, savings] => Bank::open(checking, savings)?,
        _ => return Err("give the URLs of two databases, or none".into()),
    };
    bank.transfer_at_once()?;
    let audit = bank.audit()?;
    println!("{} transfers, and {} in both databases together", audit.transfers.len(), audit.total);
    let name = bank.take_one_back(&audit)?;
    println!("took back {name:?}; still {} together", bank.audit()?.total);
    Ok(())
}

/// Accounts in two databases; money only moves from one to the other.
struct Bank {
    checking: Client,
    savings: Client,
}

/// What the history of both databases says.
struct Audit {
    /// All balances together.
    total: i64,
    /// By its name, the tids of each transfer in the two databases.
    transfers: BTreeMap<String, [Tid; 2]>,
}

impl Bank {
    /// Opens the accounts, with some money in each, unless they are there.
    fn open(checking: &str, savings: &str) -> Result<Self> {
        let bank =
            Self { checking: Client::connect(checking)?, savings: Client::connect(savings)? };
        for db in [&bank.checking, &bank.savings] {
            db.run(|txn| match txn.load(account(0)) {
                Ok(_) => Ok(()),
                Err(LoadError::NotFound(_)) => {
                    txn.set_description("opening")?;
                    (0..ACCOUNTS).try_for_each(|number| write(txn, account(number), OPENING))
                }
                Err(error) => Err(error.into()),
            })
            .map_err(|error| error.to_string())?;
        }
        Ok(bank)
    }

    /// Four tellers make transfers, each in its own thread, over the same two clients.
    fn transfer_at_once(&self) -> Result<()> {
        let teller = |teller: u64| (0..TRANSFERS).try_for_each(|i| self.transfer(teller, i));
        thread::scope(|scope| {
            let tellers: Vec<_> = (0..4).map(|n| scope.spawn(move || teller(n))).collect();
            tellers.into_iter().try_for_each(|t| t.join().map_err(|_| "a teller panicked")?)
        })
    }

    /// Moves money between two accounts, again if others were faster.
    fn transfer(&self, teller: u64, number: u64) -> Result<()> {
        let (from, to) = (account(teller * 7 + number), account(teller + number * 3));
        loop {
            let (mut debit, mut credit) = (self.checking.begin()?, self.savings.begin()?);
            let amount = i64::try_from(1 + number % 9)?;
            let name = format!("teller {teller}, transfer {number} after {}", debit.snapshot());
            for (txn, account, change) in [(&mut debit, from, -amount), (&mut credit, to, amount)] {
                let balance = read(txn, account)?;
                write(txn, account, balance + change)?;
                txn.set_user(format!("teller {teller}"))?;
                txn.set_description(name.as_str())?;
            }
            match commit_together([debit, credit]) {
                Ok(_) => return Ok(()),
                Err(TogetherError::NotCommitted { why: CommitError::Conflict(_), .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Follows both histories from their beginning: every transfer is in both, and no money is made
    /// or lost by it.
    fn audit(&self) -> Result<Audit> {
        let (mut balances, mut transfers) = (BTreeMap::new(), BTreeMap::new());
        let mut changes: BTreeMap<String, i64> = BTreeMap::new();
        for (place, db) in [&self.checking, &self.savings].into_iter().enumerate() {
            db.sync()?;
            for txn in db.transactions(..) {
                let txn = txn?;
                let name = txn.head.meta.description.clone();
                for record in db.records(&txn) {
                    let record = record?;
                    let balance = parse(&record.data.ok_or("an account was deleted")?)?;
                    let before = balances.insert((place, record.oid), balance);
                    *changes.entry(name.clone()).or_default() += balance - before.unwrap_or(0);
                }
                let tids: &mut [Tid; 2] = transfers.entry(name).or_default();
                *tids.get_mut(place).ok_or("there are two databases")? = txn.head.tid;
            }
        }
        transfers.remove("opening");
        changes.remove("opening");
        for (name, tids) in &transfers {
            if tids.contains(&Tid::ZERO) || changes.get(name) != Some(&0) {
                return Err(format!("{name:?} is in one database and not in the other").into());
            }
        }
        Ok(Audit { total: balances.values().sum(), transfers })
    }

    /// Undoes the newest transfer that no later one has built upon, in both databases together.
    fn take_one_back(&self, audit: &Audit) -> Result<String> {
        let mut newest: Vec<_> = audit.transfers.iter().collect();
        newest.sort_by_key(|(_, tids)| std::cmp::Reverse(**tids));
        for (name, &[checking, savings]) in newest {
            let (mut debit, mut credit) = (self.checking.begin()?, self.savings.begin()?);
            for (txn, tid) in [(&mut debit, checking), (&mut credit, savings)] {
                txn.undo(tid)?;
                txn.set_description(format!("take back: {name}"))?;
            }
            match commit_together([debit, credit]) {
                Ok(_) => return Ok(name.clone()),
                Err(TogetherError::NotCommitted { why, .. }) if is_in_the_way(&why) => {
                    println!("{name:?} was built upon");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err("every transfer was built upon".into())
    }
}

/// Whether a later transfer changed the same account.
fn is_in_the_way(why: &CommitError) -> bool {
    matches!(why, CommitError::NotCommitted(NotCommitted::UndoRefused(_)))
}

fn account(number: u64) -> Oid {
    Oid::new(1 + number % ACCOUNTS)
}

fn read(txn: &mut Transaction, account: Oid) -> Result<i64> {
    parse(&txn.load(account)?.data)
}

fn write(txn: &mut Transaction, account: Oid, balance: i64) -> Result<()> {
    Ok(txn.store(account, balance.to_string())?)
}

fn parse(data: &[u8]) -> Result<i64> {
    Ok(std::str::from_utf8(data)?.parse()?)
}

const ACCOUNTS: u64 = 10;
const OPENING: i64 = 1_000;
/// Transfers of each teller.
const TRANSFERS: u64 = 25;
