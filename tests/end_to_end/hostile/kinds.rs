//! Every kind of hostile peer, each a small function in a table.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use zeo_proto::{
    Call, ClientConnection, ClientMessage, Cursor, Greeting, Hello, Identity, MAX_BATCH,
    MAX_NEW_OIDS, Oid, OutcomeQuery, ServerConnection, Tid,
};

use super::field::{Field, TOLERATED, again, answered, flood, idle};
use super::wire::{
    Ended, Wire, begin, calls, frame, let_a_moment_pass, open, read_to_end, store, txn_id, vote,
    vote_only,
};

/// One kind of hostile peer.
pub(crate) struct Kind {
    /// What it does.
    pub(crate) name: &'static str,
    /// Part of what becomes of it.
    pub(crate) fate: &'static str,
    /// Does it until the field says that it is over; returns what became of it.
    pub(crate) attack: fn(&Field<'_>) -> Ended,
}

pub(crate) const KINDS: [Kind; 41] = [
    kind("says nothing", TOLERATED, says_nothing),
    kind("says hello a byte at a time", TOLERATED, says_hello_slowly),
    kind("says half a hello", TOLERATED, says_half_a_hello),
    kind("says hello to another database", "refused: this is database", other_database),
    kind("says hello to a storage that is not there", "refused: no storage", other_storage),
    kind("is a web browser", "closed", is_a_web_browser),
    kind("announces a giant hello", "closed", announces_a_giant_hello),
    kind("announces a giant message", "broke the protocol", announces_a_giant_message),
    kind("talks garbage after its hello", "broke the protocol", talks_garbage),
    kind("leaves a message unfinished", TOLERATED, leaves_a_message_unfinished),
    kind("sends a message a byte at a time", TOLERATED, sends_slowly),
    kind("never reads", TOLERATED, never_reads),
    kind("reads a byte at a time", TOLERATED, reads_slowly),
    kind("opens connections and keeps them", TOLERATED, keeps_connections),
    kind("connects and leaves in a loop", TOLERATED, connects_and_leaves),
    kind("resets connections in a loop", TOLERATED, resets_connections),
    kind("says hello and half-closes in a loop", TOLERATED, half_closes),
    kind("floods pings", TOLERATED, floods_pings),
    kind("floods loads of large objects", TOLERATED, floods_large_loads),
    kind("floods batch loads", TOLERATED, floods_batches),
    kind("floods loads of objects that are not there", TOLERATED, floods_misses),
    kind("begins transactions and ends none", "more than 1024 transactions", begins_only),
    kind("begins and aborts in a loop", TOLERATED, begins_and_aborts),
    kind("stores outside of a transaction", "is not open", stores_without_begin),
    kind("lets a transaction grow", TOLERATED, lets_a_transaction_grow),
    kind("stores one object all the time", TOLERATED, stores_one_object),
    kind("commits conflicts all the time", "Conflict", commits_conflicts),
    kind("commits all the time", "Finished", commits_all_the_time),
    kind("commits many objects at once", "Finished", commits_many_objects),
    kind("resets in the middle of a commit", TOLERATED, resets_in_a_commit),
    kind("votes and never finishes", TOLERATED, votes_and_never_finishes),
    kind("votes and aborts in a loop", TOLERATED, votes_and_aborts),
    kind("waits for locks that it holds itself", "Busy", waits_for_its_own_locks),
    kind("resolves conflicts and never comes to an end", "Conflict", resolves_for_ever),
    kind("undoes what never was", "NoSuchTid", undoes_what_never_was),
    kind("reads all of history all the time", TOLERATED, reads_history),
    kind("asks for outcomes all the time", "Busy", asks_for_outcomes),
    kind("takes names all the time", TOLERATED, takes_names),
    kind("catches up all the time", TOLERATED, catches_up),
    kind("asks for the status all the time", TOLERATED, asks_for_the_status),
    kind("asks how it is all the time", "closed", asks_how_it_is),
];

const fn kind(name: &'static str, fate: &'static str, attack: fn(&Field<'_>) -> Ended) -> Kind {
    Kind { name, fate, attack }
}

fn says_nothing(field: &Field<'_>) -> Ended {
    let _strangers: Vec<TcpStream> = (0..50).map(|_| open(field)).collect();
    idle(field)
}

fn says_hello_slowly(field: &Field<'_>) -> Ended {
    let (mut stream, mut hello) = (open(field), hello().into_iter());
    again(field, || {
        if let Some(byte) = hello.next() {
            stream.write_all(&[byte]).unwrap();
        }
        let_a_moment_pass();
        Ok(())
    })
}

fn says_half_a_hello(field: &Field<'_>) -> Ended {
    let hello = hello();
    let half = |_| {
        let mut stream = open(field);
        stream.write_all(&hello[..hello.len() / 2]).unwrap();
        stream
    };
    let _strangers: Vec<TcpStream> = (0..50).map(half).collect();
    idle(field)
}

fn other_database(field: &Field<'_>) -> Ended {
    let known = Some(Identity { uuid: [0x66; 16], epoch: 1 });
    again(field, || {
        let mut hello = Hello::new("main").unwrap();
        hello.known = known;
        refused(field, hello)
    })
}

fn other_storage(field: &Field<'_>) -> Ended {
    again(field, || refused(field, Hello::new("nowhere").unwrap()))
}

fn is_a_web_browser(field: &Field<'_>) -> Ended {
    again(field, || Err(stranger(field, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")))
}

fn announces_a_giant_hello(field: &Field<'_>) -> Ended {
    again(field, || Err(stranger(field, &[0xff; 4])))
}

fn announces_a_giant_message(field: &Field<'_>) -> Ended {
    again(field, || Err(told(field, &[0xff; 4])))
}

/// Among it a goodbye with a text of a megabyte.
fn talks_garbage(field: &Field<'_>) -> Ended {
    let text = 1_u32 << 20;
    let mut goodbye = (text + 16).to_be_bytes().to_vec();
    goodbye.extend([6_u32, 2, text, 0].map(u32::to_le_bytes).concat());
    goodbye.resize(4 + 16 + text as usize, b'x');
    again(field, || {
        told(field, &[0, 0, 0, 8, 99, 99, 99, 99, 99, 99, 99, 99]);
        Err(told(field, &goodbye))
    })
}

fn leaves_a_message_unfinished(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let bytes = [begin(1, 1, Tid::ZERO), store(1, Oid::new(1), None, &vec![7; 60 << 20])].concat();
    wire.write(&bytes[..bytes.len() - 1]).unwrap();
    idle(field)
}

fn sends_slowly(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let mut bytes = begin(1, 1, Tid::ZERO).into_iter().cycle();
    again(field, || {
        wire.write(bytes.next().as_slice())?;
        let_a_moment_pass();
        Ok(())
    })
}

fn never_reads(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let loads = large_loads(field);
    let mut written = 0;
    again(field, || {
        written = (written + wire.write_some(&loads[written..])?) % loads.len();
        let_a_moment_pass();
        Ok(())
    })
}

fn reads_slowly(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    wire.write(&large_loads(field)).unwrap();
    again(field, || wire.read_a_byte())
}

fn keeps_connections(field: &Field<'_>) -> Ended {
    let mut kept: Vec<Wire> = (0..500).map(|_| Wire::connect(field)).collect();
    again(field, || {
        let replaced = kept.len() / 2;
        kept[replaced] = Wire::connect(field);
        Ok(())
    })
}

fn connects_and_leaves(field: &Field<'_>) -> Ended {
    again(field, || {
        drop(Wire::connect(field));
        Ok(())
    })
}

/// To close a socket with unread input, here the greeting, resets the connection.
fn resets_connections(field: &Field<'_>) -> Ended {
    again(field, || {
        drop(open(field));
        let mut wire = Wire::connect(field);
        wire.write(&calls(10, |_| Call::Status))?;
        wire.write(&calls(10, |_| Call::Status))
    })
}

fn half_closes(field: &Field<'_>) -> Ended {
    again(field, || {
        let mut wire = Wire::connect(field);
        wire.write(&calls(10, |_| Call::Ping))?;
        wire.half_close();
        wire.last_words();
        Ok(())
    })
}

fn floods_pings(field: &Field<'_>) -> Ended {
    flood(field, &calls(2_000, |_| Call::Ping))
}

fn floods_large_loads(field: &Field<'_>) -> Ended {
    flood(field, &large_loads(field))
}

fn floods_batches(field: &Field<'_>) -> Ended {
    let mut oids = field.small.iter().copied().cycle();
    let batches: Vec<Call> = (0..20)
        .map(|_| Call::LoadMany(Tid::MAX, oids.by_ref().take(MAX_BATCH).collect()))
        .collect();
    flood(field, &calls(20, |n| batches[usize::try_from(n).unwrap()].clone()))
}

fn floods_misses(field: &Field<'_>) -> Ended {
    flood(field, &calls(2_000, |n| Call::LoadBefore(Oid::new(u64::MAX / 2 - n), Tid::MAX)))
}

fn begins_only(field: &Field<'_>) -> Ended {
    let bytes: Vec<u8> = (0..1_025)
        .flat_map(|n| [begin(n, 1, Tid::ZERO), store(n, field.small[0], None, &[7; 1_000])])
        .flatten()
        .collect();
    again(field, || {
        let mut wire = Wire::connect(field);
        wire.write(&bytes)?;
        Err(wire.last_words())
    })
}

fn begins_and_aborts(field: &Field<'_>) -> Ended {
    let abort = frame(&ClientMessage::TpcAbort(1), &[]);
    let once = [begin(1, 1, Tid::ZERO), store(1, Oid::new(1), None, &[7; 1_000]), abort].concat();
    flood(field, &once.repeat(100))
}

fn stores_without_begin(field: &Field<'_>) -> Ended {
    let bytes = store(7, field.small[0], None, b"data");
    again(field, || Err(told(field, &bytes)))
}

fn lets_a_transaction_grow(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    wire.write(&begin(1, 1, Tid::ZERO)).unwrap();
    let bytes = store(1, field.small[0], None, &vec![7; 1 << 20]);
    again(field, || wire.write(&bytes))
}

fn stores_one_object(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let bytes = store(1, Oid::new(1 << 40), Some(Tid::new(1)), b"x").repeat(10_000);
    again(field, || {
        wire.write(&begin(1, 1, Tid::ZERO))?;
        (0..10).try_for_each(|_| wire.write(&bytes))?;
        wire.write(&vote(1))?;
        wire.answer().map(drop)
    })
}

fn commits_conflicts(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let conflict = |n| {
        let stores = store(n, field.small[0], Some(Tid::new(1)), &[7; 1_000]);
        [begin(n, 1, Tid::ZERO), stores, vote(n)].concat()
    };
    let bytes: Vec<u8> = (0..100).flat_map(conflict).collect();
    answered(field, || {
        wire.write(&bytes)?;
        wire.last_answer(100)
    })
}

fn commits_all_the_time(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    answered(field, || {
        let commit = |n| {
            let name = fresh();
            let stores = store(n, Oid::new(name), Some(Tid::ZERO), &[7; 1_000]);
            [begin(n, name, Tid::ZERO), stores, vote(n)].concat()
        };
        wire.write(&(0..100).flat_map(commit).collect::<Vec<u8>>())?;
        wire.last_answer(100)
    })
}

fn commits_many_objects(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    answered(field, || {
        let begin = begin(1, fresh(), Tid::ZERO);
        let stores = (0..10_000).flat_map(|_| store(1, Oid::new(fresh()), Some(Tid::ZERO), b"x"));
        wire.write(&[begin, stores.collect(), vote(1)].concat())?;
        wire.last_answer(1)
    })
}

fn resets_in_a_commit(field: &Field<'_>) -> Ended {
    let stores = store(1, field.small[0], Some(Tid::new(1)), &vec![7; 100_000]);
    let bytes = [begin(1, 1, Tid::ZERO), stores, vote(1)].concat();
    let mut cut = 0;
    again(field, || {
        cut = (cut + 7_919) % bytes.len();
        let mut wire = Wire::connect(field);
        wire.write(&calls(1, |_| Call::Ping))?;
        wire.write(&bytes[..cut])
    })
}

fn votes_and_never_finishes(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let mut voted = 0;
    again(field, || {
        for _ in 0..10 {
            voted += 1;
            let stores = store(voted, Oid::new(fresh()), Some(Tid::ZERO), &[7; 1_000]);
            wire.write(&[begin(voted, fresh(), Tid::ZERO), stores, vote_only(voted)].concat())?;
            wire.answer()?.map_err(|failure| format!("{failure:?}"))?;
        }
        let_a_moment_pass();
        Ok(())
    })
}

fn votes_and_aborts(field: &Field<'_>) -> Ended {
    let abort = frame(&ClientMessage::TpcAbort(1), &[]);
    let stores = store(1, Oid::new(1 << 40), Some(Tid::ZERO), &[7; 1_000]);
    let once = [begin(1, 1, Tid::ZERO), stores, vote_only(1), abort].concat();
    flood(field, &once.repeat(100))
}

fn waits_for_its_own_locks(field: &Field<'_>) -> Ended {
    let (mut holder, oid) = (Wire::connect(field), Oid::new(fresh()));
    let voting = |number| {
        let stores = store(number, oid, Some(Tid::ZERO), b"x");
        [begin(number, fresh(), Tid::ZERO), stores, vote_only(number)].concat()
    };
    holder.write(&voting(1)).unwrap();
    holder.last_answer(1).unwrap();
    // No connection may wait with so many, but several can.
    let mut waiting: Vec<Wire> = (0..5).map(|_| Wire::connect(field)).collect();
    for wire in &mut waiting {
        wire.write(&(1..=250).flat_map(voting).collect::<Vec<u8>>()).unwrap();
    }
    let end = waiting[4].last_answer(1).unwrap_or_else(|end| end);
    field.strike();
    let rest = idle(field);
    if rest == TOLERATED { end } else { rest }
}

fn resolves_for_ever(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let oid = field.small[field.small.len() / 2];
    let again = frame(&ClientMessage::Call(1, Call::TpcVoteResolving(1, true)), &[]);
    answered(field, || {
        wire.write(&begin(1, fresh(), Tid::ZERO))?;
        wire.write(&store(1, oid, Some(Tid::new(1)), &[7; 1_000]))?;
        (0..10).try_for_each(|_| {
            wire.write(&again)?;
            wire.answer().map(drop)
        })?;
        wire.write(&again)?;
        wire.last_answer(1)
    })
}

fn undoes_what_never_was(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    let undo = |n| {
        let undo = frame(&ClientMessage::Undo(n, Tid::new(77)), &[]);
        [begin(n, 1, Tid::ZERO), undo, vote(n)].concat()
    };
    let bytes: Vec<u8> = (0..100).flat_map(undo).collect();
    answered(field, || {
        wire.write(&bytes)?;
        wire.last_answer(100)
    })
}

fn reads_history(field: &Field<'_>) -> Ended {
    flood(field, &calls(200, |_| Call::Transactions(Cursor::from_tid(Tid::ZERO), Tid::MAX)))
}

fn asks_for_outcomes(field: &Field<'_>) -> Ended {
    let mut wire = Wire::connect(field);
    answered(field, || {
        let query = || OutcomeQuery { id: txn_id(fresh()), snapshot: Tid::ZERO, epoch: 1 };
        wire.write(&calls(200, |_| Call::Outcome(query())))?;
        wire.last_answer(200)
    })
}

fn takes_names(field: &Field<'_>) -> Ended {
    flood(field, &calls(200, |_| Call::NewOids(MAX_NEW_OIDS)))
}

fn catches_up(field: &Field<'_>) -> Ended {
    flood(field, &calls(200, |_| Call::InvalidationsSince(Tid::ZERO)))
}

fn asks_for_the_status(field: &Field<'_>) -> Ended {
    flood(field, &calls(2_000, |_| Call::Status))
}

fn asks_how_it_is(field: &Field<'_>) -> Ended {
    again(field, || Err(stranger(field, b"\0\0\0\x04ruok")))
}

/// What a stranger gets who says that.
fn stranger(field: &Field<'_>, bytes: &[u8]) -> Ended {
    let mut stream = open(field);
    // It may be closed before all is said.
    drop(stream.write_all(bytes));
    read_to_end(stream)
}

/// What a session gets that says that.
fn told(field: &Field<'_>, bytes: &[u8]) -> Ended {
    let mut wire = Wire::connect(field);
    wire.write(bytes).err().unwrap_or_else(|| wire.last_words())
}

fn refused(field: &Field<'_>, hello: Hello) -> Result<(), Ended> {
    Wire::introduce(field, hello).map(drop)
}

fn large_loads(field: &Field<'_>) -> Vec<u8> {
    let mut oids = field.large.iter().copied().cycle();
    let oids: Vec<Oid> = oids.by_ref().take(200).collect();
    calls(200, |n| Call::LoadBefore(oids[usize::try_from(n).unwrap()], Tid::MAX))
}

/// The bytes of a hello.
fn hello() -> Vec<u8> {
    let (mut greeting, mut hello) = (Vec::new(), Vec::new());
    ServerConnection::new(Greeting::default()).greet(&mut greeting);
    let mut machine = ClientConnection::new(Hello::new("main").unwrap());
    machine.receive(&greeting);
    machine.poll();
    machine.take_output(&mut hello);
    hello
}

/// A number that nobody had before.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 41);
    NEXT.fetch_add(1, Ordering::SeqCst)
}
