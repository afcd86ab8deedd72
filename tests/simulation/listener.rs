//! What a client's application hears of changes: it must be enough to keep a cache of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use zeo_client::{Changed, Client, Invalidation, Subscription};
use zeo_proto::{Oid, Tid};

use crate::history::History;

/// An application that listens.
pub(crate) struct Listener {
    told: Arc<Mutex<Told>>,
    _subscription: Subscription,
}

#[derive(Default)]
struct Told {
    /// The last tid that the client began with: nothing is told of what came before.
    from: Option<Tid>,
    last: Tid,
    everything: Tid,
    objects: BTreeMap<Oid, Tid>,
}

impl Listener {
    pub(crate) fn new(client: &Client) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let notes = Arc::clone(&told);
        let subscription = client.on_invalidation(move |change| notes.lock().unwrap().add(change));
        Self { told, _subscription: subscription }
    }

    /// Lets the application hear what waits.
    pub(crate) fn listen(&self, client: &Client) {
        let mut told = self.told.lock().unwrap();
        if told.from.is_none() && client.is_connected() {
            told.from = Some(client.last_tid());
        }
        drop(told);
        client.deliver();
    }

    /// Every object that has changed since was told of, at its last change or later.
    pub(crate) fn check(&self, history: &History, oids: impl Iterator<Item = Oid>, host: &str) {
        let told = self.told.lock().unwrap();
        let from = told.from.expect("it is connected");
        for oid in oids {
            let changed = history.last_change(oid).filter(|tid| *tid > from);
            let heard = told.objects.get(&oid).copied().max(Some(told.everything));
            assert!(heard >= changed, "{host} heard of {oid} at {heard:?}, not {changed:?}");
        }
    }
}

impl Told {
    fn add(&mut self, change: &Invalidation) {
        assert!(change.tid > self.last, "{change:?} was told after {}", self.last);
        self.last = change.tid;
        match &change.changed {
            Changed::Everything => self.everything = change.tid,
            Changed::Objects(oids) => {
                self.objects.extend(oids.iter().map(|oid| (*oid, change.tid)));
            }
        }
    }
}
