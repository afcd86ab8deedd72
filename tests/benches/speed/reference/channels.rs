//! A thread that sends back what it is sent.

use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// The caller's ends.
#[derive(Debug)]
pub(crate) struct Channels {
    there: Sender<()>,
    back: Receiver<()>,
}

impl Channels {
    pub(crate) fn start() -> Self {
        let (there, arrived) = bounded(1);
        let (answer, back) = bounded(1);
        let serve = move || arrived.into_iter().try_for_each(|()| answer.send(()));
        thread::Builder::new().spawn(serve).unwrap();
        Self { there, back }
    }

    pub(crate) fn once(&self) {
        self.there.send(()).unwrap();
        self.back.recv().unwrap();
    }
}
