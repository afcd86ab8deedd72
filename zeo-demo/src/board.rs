//! The notes board, as objects in the database: root → board → notes.
//!
//! Each note is an object of its own, so that edits of different notes never conflict. The board
//! object is the list of them, which changes when a note is added or deleted. The root object
//! names the board. Objects are serde types, written as JSON.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeo_client::{Client, LoadError, Oid, Revision, RunError, Tid, Transaction};

/// The board, in a database.
#[derive(Debug)]
pub(crate) struct Board {
    db: Client,
    oid: Oid,
}

/// A note, as the outside sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Its object.
    pub(crate) id: Oid,
    /// What it says.
    pub(crate) text: String,
    /// The transaction that wrote it: whoever changes the note says which revision they saw.
    pub(crate) revision: Tid,
}

/// The root object: what the database has, by name.
type RootRecord = BTreeMap<String, Oid>;

/// The board object.
#[derive(Debug, Default, Serialize, Deserialize)]
struct BoardRecord {
    notes: Vec<Oid>,
}

/// A note's object.
#[derive(Debug, Serialize, Deserialize)]
struct NoteRecord {
    text: String,
}

/// Something could not be done with the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BoardError {
    /// The board has no note of that name, or no longer.
    NoSuchNote,
    /// Somebody else changed the note; this is what it says now.
    Changed(Note),
    /// The board has [`NOTES_MAX`] notes.
    Full,
    /// The database did not do it; the text says why.
    Database(String),
}

impl Board {
    /// Finds the board in the database, or creates it.
    pub(crate) fn open(db: Client) -> Result<Self, BoardError> {
        // Two processes may both find an empty database. One of them then conflicts, runs again,
        // and finds the other's board.
        let oid = run(&db, find_or_create)?;
        Ok(Self { db, oid })
    }

    /// All notes, oldest first, with everything that was committed anywhere before this call.
    pub(crate) fn notes(&self) -> Result<Vec<Note>, BoardError> {
        self.db.sync()?;
        let BoardRecord { notes } = decode(&self.db.load(self.oid)?)?;
        let revisions = self.db.load_many(&notes)?;
        // A note that was deleted since the list was read has no revision.
        let found = notes.into_iter().zip(revisions).filter_map(|(id, found)| Some((id, found?)));
        found.map(|(id, revision)| Note::of(id, &revision)).collect()
    }

    /// Adds a note at the end.
    pub(crate) fn add(&self, text: &str) -> Result<Note, BoardError> {
        let id = run(&self.db, |txn| {
            let mut board: BoardRecord = decode(&txn.load(self.oid)?)?;
            if board.notes.len() >= NOTES_MAX {
                return Err(BoardError::Full);
            }
            let id = txn.create(encode(&NoteRecord { text: text.to_owned() }))?;
            board.notes.push(id);
            txn.store(self.oid, encode(&board))?;
            Ok(id)
        })?;
        self.note(id)
    }

    /// Replaces a note's text, if it is still the revision that its editor saw.
    pub(crate) fn edit(&self, id: Oid, text: &str, revision: Tid) -> Result<Note, BoardError> {
        run(&self.db, |txn| {
            self.check(txn, id, revision)?;
            txn.store(id, encode(&NoteRecord { text: text.to_owned() }))?;
            Ok(())
        })?;
        self.note(id)
    }

    /// Takes a note off the board, if it is still the revision that its deleter saw.
    pub(crate) fn delete(&self, id: Oid, revision: Tid) -> Result<(), BoardError> {
        run(&self.db, |txn| {
            let mut board = self.check(txn, id, revision)?;
            board.notes.retain(|note| *note != id);
            txn.store(self.oid, encode(&board))?;
            txn.delete(id)?;
            Ok(())
        })
    }

    /// The board, if it has that note in that revision.
    ///
    /// Should the note change between this check and the commit, the commit conflicts, and the
    /// check that runs again finds the change.
    fn check(&self, txn: &mut Transaction, id: Oid, seen: Tid) -> Result<BoardRecord, BoardError> {
        let board: BoardRecord = decode(&txn.load(self.oid)?)?;
        if !board.notes.contains(&id) {
            return Err(BoardError::NoSuchNote);
        }
        let note = Note::of(id, &txn.load(id)?)?;
        if note.revision == seen { Ok(board) } else { Err(BoardError::Changed(note)) }
    }

    /// A note as it is now, which in the meantime may be what somebody else made of it.
    fn note(&self, id: Oid) -> Result<Note, BoardError> {
        match self.db.load(id) {
            Err(LoadError::NotFound(_) | LoadError::Deleted { .. }) => Err(BoardError::NoSuchNote),
            found => Note::of(id, &found?),
        }
    }
}

impl Note {
    fn of(id: Oid, revision: &Revision) -> Result<Self, BoardError> {
        let NoteRecord { text } = decode(revision)?;
        Ok(Self { id, text, revision: revision.tid })
    }
}

/// Runs a transaction that sees everything that was committed anywhere before.
fn run<T>(
    db: &Client,
    work: impl FnMut(&mut Transaction) -> Result<T, BoardError>,
) -> Result<T, BoardError> {
    db.sync()?;
    db.run(work).map_err(|error| match error {
        RunError::App(error) => error,
        RunError::Commit(error) => error.into(),
        _ => BoardError::Database("the transaction was not made".to_owned()),
    })
}

fn find_or_create(txn: &mut Transaction) -> Result<Oid, BoardError> {
    let mut root: RootRecord = match txn.load(Oid::ROOT) {
        Err(LoadError::NotFound(_)) => RootRecord::new(),
        found => decode(&found?)?,
    };
    if let Some(oid) = root.get(NAME) {
        return Ok(*oid);
    }
    let oid = txn.create(encode(&BoardRecord::default()))?;
    root.insert(NAME.to_owned(), oid);
    txn.store(Oid::ROOT, encode(&root))?;
    Ok(oid)
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are text, names and lists")
}

fn decode<T: DeserializeOwned>(revision: &Revision) -> Result<T, BoardError> {
    let unknown = |error| BoardError::Database(format!("an object is not the board's: {error}"));
    serde_json::from_slice(&revision.data).map_err(unknown)
}

/// Whatever the client reports; what the board itself finds is said above.
impl<E: Error> From<E> for BoardError {
    fn from(error: E) -> Self {
        Self::Database(error.to_string())
    }
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchNote => f.write_str("there is no such note"),
            Self::Changed(_) => f.write_str("somebody else changed the note"),
            Self::Full => write!(f, "the board is full: it has {NOTES_MAX} notes"),
            Self::Database(why) => f.write_str(why),
        }
    }
}

/// The board's name in the root object.
const NAME: &str = "board";

/// The most notes on a board.
const NOTES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use zeo_server::{RunningServer, Server};

    use super::*;

    #[test]
    fn a_board_is_found_again_with_its_notes() {
        let server = Server::in_memory().unwrap();
        let board = open(&server);
        assert_eq!(board.notes(), Ok(vec![]));
        let notes = ["one", "two"].map(|text| board.add(text).unwrap());
        assert_eq!(open(&server).notes(), Ok(notes.to_vec()));
    }

    #[test]
    fn processes_that_find_an_empty_database_agree_on_one_board() {
        let server = Server::in_memory().unwrap();
        let ready = Barrier::new(CROWD);
        let oids = crowd(|_| {
            let db = Client::connect(&server.url("main")).unwrap();
            ready.wait();
            Board::open(db).unwrap().oid
        });
        assert!(oids.iter().all(|oid| *oid == oids[0]), "{oids:?}");
    }

    #[test]
    fn notes_added_at_once_are_all_there() {
        let server = Server::in_memory().unwrap();
        let board = open(&server);
        let mut notes = crowd(|number| open(&server).add(&number.to_string()).unwrap());
        let mut found = board.notes().unwrap();
        notes.sort_by_key(|note| note.id);
        found.sort_by_key(|note| note.id);
        assert_eq!(found, notes);
    }

    #[test]
    fn of_edits_of_one_revision_one_is_made_and_the_others_hear_of_it() {
        let server = Server::in_memory().unwrap();
        let Note { id, revision, .. } = open(&server).add("before").unwrap();
        let edits = crowd(|number| open(&server).edit(id, &number.to_string(), revision));
        let made: Vec<_> = edits.iter().filter_map(|edit| edit.as_ref().ok()).collect();
        assert_eq!(made.len(), 1, "{edits:?}");
        let changed = BoardError::Changed(made[0].clone());
        let refused = edits.iter().filter(|edit| **edit == Err(changed.clone()));
        assert_eq!(refused.count(), CROWD - 1, "{edits:?}");
    }

    #[test]
    fn a_note_is_deleted_only_in_the_revision_that_was_seen() {
        let server = Server::in_memory().unwrap();
        let (mine, theirs) = (open(&server), open(&server));
        let seen = mine.add("before").unwrap();
        let note = theirs.edit(seen.id, "after", seen.revision).unwrap();
        assert_eq!(mine.delete(seen.id, seen.revision), Err(BoardError::Changed(note.clone())));
        assert_eq!(mine.delete(note.id, note.revision), Ok(()));
        assert_eq!(theirs.notes(), Ok(vec![]));
        assert_eq!(theirs.edit(note.id, "again", note.revision), Err(BoardError::NoSuchNote));
    }

    #[test]
    fn what_somebody_else_committed_is_seen_at_once() {
        let server = Server::in_memory().unwrap();
        let (mine, theirs) = (open(&server), open(&server));
        for round in 0..50 {
            let note = theirs.add("theirs").unwrap();
            let note = mine.edit(note.id, &round.to_string(), note.revision).unwrap();
            assert_eq!(theirs.delete(note.id, note.revision), Ok(()));
            assert_eq!(mine.notes(), Ok(vec![]));
        }
    }

    #[test]
    fn objects_that_are_not_on_the_board_are_not_notes() {
        let server = Server::in_memory().unwrap();
        let board = open(&server);
        for id in [Oid::ROOT, board.oid, Oid::MAX] {
            let revision = board.db.load(id).map_or(Tid::ZERO, |found| found.tid);
            assert_eq!(board.edit(id, "mine", revision), Err(BoardError::NoSuchNote));
            assert_eq!(board.delete(id, revision), Err(BoardError::NoSuchNote));
        }
    }

    #[test]
    fn a_full_board_takes_no_more_notes() {
        let server = Server::in_memory().unwrap();
        let board = open(&server);
        let full = BoardRecord { notes: vec![Oid::MAX; NOTES_MAX] };
        board.db.run(|txn| txn.store(board.oid, encode(&full))).unwrap();
        assert_eq!(board.add("one more"), Err(BoardError::Full));
    }

    #[test]
    fn other_names_in_the_root_are_left_alone_and_other_roots_refused() {
        let server = Server::in_memory().unwrap();
        let db = Client::connect(&server.url("main")).unwrap();
        db.run(|txn| txn.store(Oid::ROOT, r#"{"accounts":"ff"}"#)).unwrap();
        open(&server);
        let root: RootRecord = decode(&{
            db.sync().unwrap();
            db.load(Oid::ROOT).unwrap()
        })
        .unwrap();
        assert_eq!(root["accounts"], Oid::new(0xff));
        db.run(|txn| txn.store(Oid::ROOT, "a pickle")).unwrap();
        let refused = Board::open(db).unwrap_err().to_string();
        assert!(refused.starts_with("an object is not the board's"), "{refused}");
    }

    const CROWD: usize = 8;

    /// What as many threads get that do the same thing at once.
    fn crowd<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = (0..CROWD).map(|n| scope.spawn(move || work(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// The board as another process would open it.
    fn open(server: &RunningServer) -> Board {
        Board::open(Client::connect(&server.url("main")).unwrap()).unwrap()
    }
}
