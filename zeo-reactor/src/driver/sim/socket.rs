//! One end of a simulated connection, and what travels between two ends.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
};

use super::net::{DriverId, HostId};
use crate::{
    Address, Time,
    driver::{Readiness, StreamToken},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketId(pub(super) u64);

/// What one end sends to the other; one connection's packets never overtake each other.
pub(super) enum Packet {
    Connect(Address),
    Accepted,
    Data(Vec<u8>),
    /// So many bytes have been read, and there is room for as many more.
    Room(usize),
    Fin,
    Reset,
}

/// One end.
#[expect(clippy::struct_excessive_bools, reason = "facts that change independently")]
pub(super) struct Socket {
    pub(super) host: HostId,
    /// `None` once the program has closed it, or has gone; then only the outbox lives on.
    pub(super) owner: Option<DriverId>,
    /// `None` until it is accepted.
    pub(super) token: Option<StreamToken>,
    pub(super) peer: Option<SocketId>,
    pub(super) peer_host: HostId,
    pub(super) peer_address: Address,
    pub(super) connected: bool,
    /// Under way, in order.
    pub(super) outbox: VecDeque<Packet>,
    /// When the newest of them arrives.
    pub(super) newest: Time,
    /// None of them arrives before this.
    pub(super) late: Time,
    /// Sent, and not known to be read.
    pub(super) unread_by_peer: usize,
    /// Its peer is to be asked whether it is there.
    pub(super) probing: bool,
    inbox: VecDeque<u8>,
    /// Read since the peer was last told.
    consumed: usize,
    fin_received: bool,
    pub(super) fin_sent: bool,
    error: Option<io::ErrorKind>,
}

impl Socket {
    pub(super) fn new(host: HostId, owner: DriverId, peer_host: HostId, peer: Address) -> Self {
        Self {
            host,
            owner: Some(owner),
            token: None,
            peer: None,
            peer_host,
            peer_address: peer,
            connected: false,
            outbox: VecDeque::new(),
            newest: Time::default(),
            late: Time::default(),
            unread_by_peer: 0,
            probing: false,
            inbox: VecDeque::new(),
            consumed: 0,
            fin_received: false,
            fin_sent: false,
            error: None,
        }
    }

    /// Takes part of what has arrived, and says how many bytes of room the peer must hear of.
    pub(super) fn read(&mut self, into: &mut [u8], window: usize) -> io::Result<(usize, usize)> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        if self.inbox.is_empty() {
            return if self.fin_received {
                Ok((0, 0))
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let read = self.inbox.len().min(into.len());
        self.inbox.read_exact(into.get_mut(..read).unwrap_or_default())?;
        self.consumed += read;
        let tell = self.consumed >= window / 2;
        Ok((read, if tell { std::mem::take(&mut self.consumed) } else { 0 }))
    }

    /// How many bytes may be written.
    pub(super) fn room(&self, window: usize) -> io::Result<usize> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        if self.fin_sent || !self.connected {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match window.saturating_sub(self.unread_by_peer) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => Ok(room),
        }
    }

    pub(super) fn connect_result(&self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error.into()),
            None if self.connected => Ok(()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes what has arrived, and says what may now be done.
    pub(super) fn receive(&mut self, packet: Packet) -> Readiness {
        match packet {
            Packet::Connect(_) => {}
            Packet::Accepted => self.connected = true,
            Packet::Data(data) => self.inbox.extend(data),
            Packet::Room(read) => self.unread_by_peer = self.unread_by_peer.saturating_sub(read),
            Packet::Fin => self.fin_received = true,
            Packet::Reset => return self.fail(io::ErrorKind::ConnectionReset),
        }
        self.readiness()
    }

    /// Unread bytes are lost, as they are when a real connection is reset.
    pub(super) fn fail(&mut self, error: io::ErrorKind) -> Readiness {
        self.inbox.clear();
        self.error = Some(error);
        self.readiness()
    }

    /// A packet that arrives here is answered with a reset.
    pub(super) fn is_dead(&self) -> bool {
        self.error.is_some() || self.owner.is_none()
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(super) fn readiness(&self) -> Readiness {
        let failed = self.error.is_some();
        Readiness {
            readable: failed || self.fin_received || !self.inbox.is_empty(),
            read_closed: failed || self.fin_received,
            writable: self.connected || failed,
        }
    }
}
