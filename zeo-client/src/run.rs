//! Runs a piece of work as a transaction, again if somebody else was faster.

use zeo_proto::{Outcome, Tid};

use crate::client::Client;
use crate::error::{CallError, CommitError, InDoubt, NotCommitted, RunError};
use crate::transaction::Transaction;

impl Client {
    /// Runs `work` in a transaction and commits it; on a conflict, all of it again, after a short
    /// random pause, up to [`attempts`](crate::Options::attempts) times.
    ///
    /// When the answer to a commit is lost, the server is asked what became of it, so the work is
    /// never applied twice. An error of `work` aborts the transaction and is returned.
    ///
    /// ```
    /// # let server = zeo_server::Server::in_memory()?;
    /// # let db = zeo_client::Client::connect(&server.url("main"))?;
    /// # let counter = db.run(|txn| txn.create("0"))?;
    /// let count = db.run(|txn| {
    ///     let text = txn.load(counter)?.data;
    ///     let count = std::str::from_utf8(&text)?.parse::<u64>()? + 1;
    ///     txn.store(counter, count.to_string())?;
    ///     Ok::<_, Box<dyn std::error::Error>>(count)
    /// });
    /// assert_eq!(count.unwrap(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<T, E>(
        &self,
        mut work: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, RunError<E>> {
        for attempt in 1.. {
            let mut txn = self.begin().map_err(gave_up)?;
            let value = work(&mut txn).map_err(RunError::App)?;
            match self.commit_or_find_out(txn) {
                Ok(_) => return Ok(value),
                Err(error) if attempt < self.attempts() && is_passing(&error) => {
                    self.prepare_again(attempt, &error).map_err(gave_up)?;
                }
                Err(error) => return Err(RunError::Commit(error)),
            }
        }
        unreachable!("the attempts end before the numbers do")
    }

    fn commit_or_find_out(&self, txn: Transaction) -> Result<Tid, CommitError> {
        match self.commit(txn) {
            Err(CommitError::Unknown(doubt)) => self.find_out(doubt),
            other => other,
        }
    }

    fn find_out(&self, doubt: InDoubt) -> Result<Tid, CommitError> {
        match self.outcome(&doubt) {
            Ok(Outcome::Committed(tid)) => Ok(tid),
            Ok(Outcome::NotCommitted) => Err(NotCommitted::Lost.into()),
            Ok(Outcome::TooOldToKnow) | Err(_) => Err(doubt.into()),
        }
    }

    /// Lets others go first, and sees what they did.
    fn prepare_again(&self, attempt: u32, error: &CommitError) -> Result<(), CallError> {
        self.pause_before(attempt)?;
        if let CommitError::Conflict(conflict) = error
            && conflict.committed > self.last_tid()
        {
            self.sync()?;
        }
        Ok(())
    }
}

fn gave_up<E>(error: CallError) -> RunError<E> {
    RunError::Commit(error.into())
}

/// Whether it may go better the next time.
fn is_passing(error: &CommitError) -> bool {
    match error {
        CommitError::Conflict(_) => true,
        CommitError::NotCommitted(why) => {
            matches!(why, NotCommitted::Busy | NotCommitted::Lost | NotCommitted::HistoryChanged)
        }
        CommitError::Unknown(_) | CommitError::Closed | CommitError::WouldDeadlock => false,
    }
}
