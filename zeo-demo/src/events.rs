//! Tells open pages that the board changed, as server-sent events.
//!
//! A listener has no queue that could fill up: it remembers the last change that it told its page
//! of, and asks for one after that. However many changes it missed, the next event covers them all.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use zeo_client::{Client, Subscription, Tid};

/// The newest change, and whoever waits for the next one, on a thread or in a task.
#[derive(Debug)]
pub(crate) struct Events {
    news: watch::Sender<News>,
    /// Held while `news` changes, so that no thread misses that on its way to waiting.
    changing: Mutex<()>,
    changed: Condvar,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The newest change is this one.
    Latest(Tid),
    /// The demo stops: there will be no more.
    Closed,
}

impl Events {
    /// Events about everything that changes from now on, for as long as the subscription lives.
    pub(crate) fn of(db: &Client) -> (Arc<Self>, Subscription) {
        let events = Arc::new(Self::since(db.last_tid()));
        let teller = Arc::clone(&events);
        // Called on the client's dispatcher thread, never on the host's: both hosts are woken.
        let subscription = db.on_invalidation(move |change| teller.announce(change.tid));
        (events, subscription)
    }

    fn since(tid: Tid) -> Self {
        let news = watch::Sender::new(News::Latest(tid));
        Self { news, changing: Mutex::default(), changed: Condvar::new() }
    }

    fn announce(&self, tid: Tid) {
        self.update(|news| matches!(*news, News::Latest(last) if last < tid), News::Latest(tid));
    }

    /// Ends all listeners' streams, and with them what a host waits for.
    pub(crate) fn close(&self) {
        self.update(|_| true, News::Closed);
    }

    fn update(&self, applies: impl FnOnce(&News) -> bool, newer: News) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.news.send_if_modified(|news| {
            let applies = applies(news);
            if applies {
                *news = newer;
            }
            applies
        });
        self.changed.notify_all();
    }

    /// What there is to tell now.
    pub(crate) fn latest(&self) -> News {
        *self.news.borrow()
    }

    /// Waits on this thread for news other than `seen`, at most that long.
    pub(crate) fn wait(&self, seen: News, limit: Duration) -> News {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(changing, limit, |()| self.latest() == seen);
        drop(waited);
        self.latest()
    }

    /// Waits in a task for news other than `seen`.
    pub(crate) async fn after(&self, seen: News) -> News {
        // An error would say that `self` is gone.
        self.news
            .subscribe()
            .wait_for(|news| *news != seen)
            .await
            .map_or(News::Closed, |news| *news)
    }

    /// Waits in a task until [`close`](Self::close).
    pub(crate) async fn closed(&self) {
        let mut news = self.latest();
        while news != News::Closed {
            news = self.after(news).await;
        }
    }
}

/// The next piece of a listener's stream, which told its page of `seen` and now finds `news`;
/// `None` ends it.
pub(crate) fn tell(seen: &mut News, news: News) -> Option<Bytes> {
    let News::Latest(tid) = news else { return None };
    if *seen == news {
        return Some(Bytes::from_static(b": still here\n\n"));
    }
    *seen = news;
    Some(format!("event: changed\ndata: {tid}\n\n").into())
}

/// How every stream begins: a dropped one is tried again after a second.
pub(crate) const GREETING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// After how long without news a listener is told so: writing is how one learns that it is gone.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn changes_that_a_listener_missed_become_one_event() {
        let events = Events::since(Tid::new(1));
        let mut seen = events.latest();
        events.announce(Tid::new(2));
        events.announce(Tid::new(3));
        let news = events.wait(seen, HEARTBEAT);
        let told = tell(&mut seen, news).unwrap();
        assert_eq!(told, "event: changed\ndata: 0000000000000003\n\n");
        assert_eq!(seen, News::Latest(Tid::new(3)));
    }

    #[test]
    fn a_listener_without_news_gets_a_sign_of_life() {
        let events = Events::since(Tid::new(1));
        let mut seen = events.latest();
        let news = events.wait(seen, Duration::ZERO);
        assert_eq!(tell(&mut seen, news).unwrap(), ": still here\n\n");
    }

    #[test]
    fn closing_wakes_threads_and_tasks_and_is_for_ever() {
        let events = Events::since(Tid::new(1));
        let seen = events.latest();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| events.wait(seen, Duration::from_mins(1)));
            events.close();
            assert_eq!(waiter.join().unwrap(), News::Closed);
        });
        events.announce(Tid::new(2));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(events.closed());
        assert_eq!(tell(&mut seen.clone(), events.latest()), None);
    }
}
