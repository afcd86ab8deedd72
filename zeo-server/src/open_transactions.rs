//! The open transactions of one session, and the oldest snapshot that one of them reads.

use std::collections::BTreeMap;

use zeo_proto::{Tid, TxnNumber};

use crate::transaction::OpenTransaction;

/// Transactions by the numbers that their client gave them.
///
/// Bounded by [`open_transactions`](crate::Limits::open_transactions).
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    table: BTreeMap<TxnNumber, OpenTransaction>,
    /// How many of them have each snapshot.
    snapshots: BTreeMap<Tid, usize>,
}

impl OpenTransactions {
    /// Adds one, under a number that is free.
    pub(crate) fn insert(&mut self, number: TxnNumber, transaction: OpenTransaction) {
        *self.snapshots.entry(transaction.snapshot()).or_default() += 1;
        let before = self.table.insert(number, transaction);
        debug_assert!(before.is_none(), "two open transactions have one number");
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, number: TxnNumber) -> Option<OpenTransaction> {
        let transaction = self.table.remove(&number)?;
        let snapshot = transaction.snapshot();
        if let Some(count) = self.snapshots.get_mut(&snapshot) {
            *count -= 1;
            if *count == 0 {
                self.snapshots.remove(&snapshot);
            }
        }
        Some(transaction)
    }

    pub(crate) fn get(&self, number: TxnNumber) -> Option<&OpenTransaction> {
        self.table.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: TxnNumber) -> Option<&mut OpenTransaction> {
        self.table.get_mut(&number)
    }

    pub(crate) fn contains(&self, number: TxnNumber) -> bool {
        self.table.contains_key(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The oldest snapshot of all.
    pub(crate) fn oldest_snapshot(&self) -> Option<Tid> {
        self.snapshots.first_key_value().map(|(&snapshot, _)| snapshot)
    }

    /// Bytes of memory that they hold.
    pub(crate) fn memory(&self) -> u64 {
        self.table.values().map(OpenTransaction::memory).sum()
    }

    /// All of them.
    pub(crate) fn into_values(self) -> impl Iterator<Item = OpenTransaction> {
        self.table.into_values()
    }
}

#[cfg(test)]
mod tests {
    use zeo_proto::{Begin, TxnId, TxnMeta};

    use super::*;

    #[test]
    fn the_oldest_snapshot_is_that_of_what_is_still_open() {
        let mut open = OpenTransactions::default();
        for (number, snapshot) in [(1, 5), (2, 3), (3, 3), (4, 9)] {
            open.insert(number, transaction(snapshot));
        }
        let oldest = |open: &OpenTransactions| open.oldest_snapshot().map(Tid::number);
        assert_eq!(oldest(&open), Some(3));
        open.remove(2).unwrap();
        assert_eq!(oldest(&open), Some(3));
        open.remove(3).unwrap();
        assert_eq!(oldest(&open), Some(5));
        assert!(open.remove(3).is_none());
        assert!(open.remove(1).is_some() && open.remove(4).is_some());
        assert_eq!((oldest(&open), open.len()), (None, 0));
    }

    fn transaction(snapshot: u64) -> OpenTransaction {
        let (id, meta) = (TxnId::from_bytes([0; 16]), TxnMeta::default());
        OpenTransaction::new(Begin { id, snapshot: Tid::new(snapshot), meta })
    }
}
