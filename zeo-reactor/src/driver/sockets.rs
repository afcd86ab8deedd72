//! What the real drivers have in common: sockets by their tokens, the machine's clocks.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    io::{self, IoSlice, Read, Write},
    time::{Instant, SystemTime},
};

use super::{
    ListenerToken, StreamToken,
    socket::{Listener, Stream},
};
use crate::{Address, Time, time::monotonic};

/// The sockets of one driver. What `T` is, a driver knows of each stream.
#[derive(Debug)]
pub(super) struct Sockets<T> {
    listeners: Vec<Option<Listener>>,
    streams: Vec<Option<(Stream, T)>>,
}

impl<T> Sockets<T> {
    pub(super) const fn new() -> Self {
        Self { listeners: Vec::new(), streams: Vec::new() }
    }

    /// Binds a listener, and lends it together with its real address.
    pub(super) fn listen(
        &mut self,
        token: ListenerToken,
        at: &Address,
    ) -> io::Result<(&mut Listener, Address)> {
        let (listener, address) = Listener::bind(at)?;
        Ok((put(&mut self.listeners, token.0, listener), address))
    }

    pub(super) fn accept(&mut self, from: ListenerToken) -> io::Result<(Stream, Address)> {
        let listener = self.listeners.get_mut(from.0).and_then(Option::as_mut);
        listener.ok_or_else(not_there)?.accept()
    }

    pub(super) fn take_listener(&mut self, token: ListenerToken) -> Option<Listener> {
        self.listeners.get_mut(token.0).and_then(Option::take)
    }

    pub(super) fn add(&mut self, token: StreamToken, stream: Stream, known: T) -> &mut Stream {
        &mut put(&mut self.streams, token.0, (stream, known)).0
    }

    pub(super) fn stream(&mut self, token: StreamToken) -> io::Result<&mut (Stream, T)> {
        self.streams.get_mut(token.0).and_then(Option::as_mut).ok_or_else(not_there)
    }

    pub(super) fn take_stream(&mut self, token: StreamToken) -> Option<Stream> {
        self.streams.get_mut(token.0).and_then(Option::take).map(|(stream, _)| stream)
    }

    #[cfg(feature = "poll")]
    pub(super) fn listeners(&self) -> impl Iterator<Item = (ListenerToken, &Listener)> {
        let all = self.listeners.iter().enumerate();
        all.filter_map(|(index, listener)| Some((ListenerToken(index), listener.as_ref()?)))
    }

    #[cfg(feature = "poll")]
    pub(super) fn streams(&self) -> impl Iterator<Item = (StreamToken, &(Stream, T))> {
        let all = self.streams.iter().enumerate();
        all.filter_map(|(index, stream)| Some((StreamToken(index), stream.as_ref()?)))
    }

    pub(super) fn finish_connect(&mut self, token: StreamToken) -> io::Result<()> {
        self.stream(token)?.0.finish_connect()
    }

    pub(super) fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize> {
        self.stream(token)?.0.read(into)
    }

    pub(super) fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream(token)?.0.write_vectored(from)
    }

    pub(super) fn shutdown(&mut self, token: StreamToken) {
        forget(self.stream(token).and_then(|(stream, _)| stream.shutdown()));
    }
}

/// The machine's clocks, the monotonic one counted from when this was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks(Instant);

impl Clocks {
    pub(super) fn start() -> Self {
        Self(monotonic())
    }

    pub(super) fn now(self) -> Time {
        Time::from_start(monotonic().duration_since(self.0))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
    pub(super) fn unix_micros() -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A number that is another one each time.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// The socket goes away anyway.
pub(super) fn forget(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::trace!(%error, "while closing a socket");
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, value: T) -> &mut T {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots.get_mut(index).expect("the slots reach that far").insert(value)
}

fn not_there() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
