//! A life from its seed to its end, where all is compared and everything is let go.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use zeo_client::{Client, CommitError, LoadError};
use zeo_proto::{Oid, Tid};
use zeo_reactor::sim::{self as reactor, WorldHeld};

use crate::courier::ACCOUNT;
use crate::guest::Guest;
use crate::history::History;
use crate::plan::Plan;
use crate::record::{Attempt, Fate};
use crate::rules::Rules;
use crate::system::System;
use crate::trace::Trace;

/// What a run came to: two of one seed are equal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    trace_hash: u64,
    last_tid: Tid,
    transactions: usize,
}

/// Runs a seed's whole life, checks everything, and says what it came to.
pub(crate) fn run(seed: u64, rules: Rules) -> Summary {
    live(System::new(Plan::new(seed, rules), Trace::default()))
}

/// The same, and writes down what happens.
pub(crate) fn run_traced(seed: u64, rules: Rules, trace: &Trace) -> Summary {
    let system = System::new(Plan::new(seed, rules), trace.clone());
    trace.of(&system.world);
    live(system)
}

fn live(mut system: System) -> Summary {
    for step in 0.. {
        if system.is_done() {
            break;
        }
        if step < FAULTY_STEPS {
            system.misfortune();
        } else if system.healed.is_none() {
            system.heal();
        }
        assert!(step < MOST_STEPS, "not everything is answered after {step} steps");
        system.step();
    }
    system.end()
}

impl System {
    fn end(mut self) -> Summary {
        if self.healed.is_none() {
            self.heal();
        }
        self.come_to_rest();
        let history = self.compare();
        let summary = Summary {
            trace_hash: self.world.trace_hash(),
            last_tid: history.last_tid(),
            transactions: self.record.fates.len(),
        };
        self.let_go();
        summary
    }

    /// Everything comes to rest by itself, and what is late happens.
    fn come_to_rest(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher.shared_mut().retire();
        }
        self.step_until(Self::is_at_rest);
        let end = self.world.now() + AFTERMATH;
        while self.world.now() < end {
            self.step();
        }
        self.is_at_rest().expect("there was rest, and it has ended");
        self.commit_last(&self.guests[0].client.clone(), true);
        if let Some(client) = self.annex.client().cloned() {
            self.commit_last(&client, false);
        }
        self.step_until(|system| system.is_at_rest().and_then(|()| system.is_quiet()));
    }

    /// A last commit, of which all sessions are told: so the server hears which of their clients
    /// are gone.
    fn commit_last(&mut self, client: &Client, is_main: bool) {
        let mut txn = client.begin().unwrap();
        let mut attempt = Attempt::new("the last".to_owned(), txn.snapshot());
        txn.store(LAST, "the last").unwrap();
        attempt.stores.insert(LAST, Bytes::from("the last"));
        let mut commit = client.nb().commit(txn);
        let answer = loop {
            match commit.try_take() {
                Some(answer) => break answer.unwrap(),
                None => self.step(),
            }
        };
        let fate = match answer {
            Ok(tid) => Fate::Committed(tid),
            // Who is in a hurry may not hear of it.
            Err(CommitError::Unknown(_)) => Fate::Unknown,
            Err(error) => panic!("{error}"),
        };
        if is_main {
            self.record.ended(attempt, fate);
        }
    }

    /// Steps until something is so; the error says what is not.
    fn step_until(&mut self, is_so: fn(&mut Self) -> Result<(), String>) {
        let end = self.world.now() + REST;
        while let Err(what) = is_so(self) {
            assert!(self.world.now() < end, "no rest: {what}");
            self.step();
        }
    }

    /// Everybody has seen the last commit.
    fn is_at_rest(&mut self) -> Result<(), String> {
        let Some((storage, _)) = &self.server else { return Err("no server".to_owned()) };
        let last_tid = storage.last_tid();
        self.annex.is_at_rest()?;
        for Guest { client, host, .. } in &self.guests {
            if !client.is_connected() || client.last_tid() != last_tid {
                return Err(format!("{host} is at {}, not {last_tid}", client.last_tid()));
            }
        }
        match &self.watcher {
            Some(watcher) if !watcher.shared().is_at_rest(last_tid) => {
                Err("the watcher waits".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Nobody waits for anything; what is left is what the living clients need.
    fn is_quiet(&mut self) -> Result<(), String> {
        let sessions = self.guests.len() + self.watcher.iter().len() + self.annex.sessions();
        self.annex.is_quiet()?;
        for guest in &mut self.guests {
            // The timer is that of the heartbeat.
            let wanted = reactor::Held { connections: 1, timers: 1, ..reactor::Held::default() };
            same(&guest.host, &guest.reactor.held(), &wanted)?;
            same(&guest.host, &guest.reactor.shared().held(), &zeo_client::Held::default())?;
        }
        let Some((_, server)) = &mut self.server else { return Err("no server".to_owned()) };
        let wanted = reactor::Held { connections: sessions, ..reactor::Held::default() };
        same("the server's reactor", &server.held(), &wanted)?;
        let wanted =
            zeo_server::Held { sessions, audience: sessions, ..zeo_server::Held::default() };
        same("the server", &server.shared().held(), &wanted)?;
        same("sockets in the world", &self.world.held().sockets, &(2 * sessions))
    }

    /// Holds everything against the history that the storage has in the end.
    fn compare(&mut self) -> History {
        let (storage, _) = self.server.as_ref().expect("it is at rest");
        let history = History::of(&**storage, self.oids().chain([LAST, ACCOUNT]));
        self.annex.check(&**storage, self.record.anything_fails);
        for (attempt, _) in std::mem::take(&mut self.record.orphans) {
            self.record.ended(attempt, Fate::Unknown);
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.shared_mut().tell(&mut self.record);
            watcher.shared().check(&history);
        }
        history.check(&self.record);
        self.plan.workloads().iter().for_each(|workload| workload.check_history(&history));
        self.check_caches(&history);
        for Guest { client, host, listener, .. } in &self.guests {
            listener.listen(client);
            listener.check(&history, self.oids(), host);
        }
        history
    }

    /// At rest, what a client reads without asking anybody is what the server has.
    fn check_caches(&self, history: &History) {
        for Guest { client, host, .. } in &self.guests {
            for oid in self.oids() {
                let Some(answer) = client.nb().load(oid).try_take() else { continue };
                let cached = match answer.unwrap() {
                    Ok(revision) => Some((revision.tid, revision.data)),
                    Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => None,
                    Err(error) => panic!("{error}"),
                };
                let truth = history.at(oid, Tid::MAX).map(|(tid, data)| (tid, data.clone()));
                assert_eq!(cached, truth, "{oid} in the cache of {host}");
            }
        }
    }

    /// Everybody leaves, the server stops, and nothing is left of anything.
    fn let_go(mut self) {
        for guest in std::mem::take(&mut self.guests) {
            guest.close(&mut self.random, &mut self.record);
        }
        self.watcher = None;
        self.annex.let_go();
        self.step_until(|system| {
            let (_, server) = system.server.as_mut().expect("nothing goes wrong any more");
            same("the server's reactor", &server.held(), &reactor::Held::default())?;
            same("the server", &server.shared().held(), &zeo_server::Held::default())
        });
        let (storage, mut server) = self.server.take().expect("it is there");
        zeo_server::Stopper::of(&server).begin_stop();
        while !server.is_stopped() {
            assert!(self.world.step(&mut [&mut server]).unwrap(), "the server does not stop");
        }
        drop((server, storage));
        self.annex.server_is_gone();
        while self.world.advance() {}
        assert_eq!(self.world.held(), WorldHeld::default(), "something outlives its owner");
    }
}

fn same<T: PartialEq + Debug>(whose: &str, held: &T, wanted: &T) -> Result<(), String> {
    if held == wanted { Ok(()) } else { Err(format!("{whose}: {held:?}, not {wanted:?}")) }
}

/// Misfortune ends after so many steps, so that every run can come to its end.
const FAULTY_STEPS: u64 = 30_000;
const MOST_STEPS: u64 = 1_000_000;
/// When nothing new is begun, everything is at rest after this time at most: a connection that is
/// dead is noticed after two heartbeats of 30 s, and made again.
const REST: Duration = Duration::from_secs(90);
/// The object of the last commit.
const LAST: Oid = Oid::new(701);
/// How long the rest must last; what is half dead is noticed meanwhile.
const AFTERMATH: Duration = Duration::from_secs(90);
