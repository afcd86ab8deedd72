//! What travels between hosts, and what happens on its way: delays, pieces, cuts, resets.

use std::{io, mem, time::Duration};

use super::{HostId, Net};
use crate::{
    Address,
    driver::{
        Readiness, Ready,
        sim::{
            event::Event,
            sight::Sight,
            socket::{Packet, Socket, SocketId},
        },
    },
};

impl Net {
    pub(in super::super) fn cut(&mut self, from: &str, to: &str) {
        let link = (self.host(from), self.host(to));
        self.cuts.insert(link);
    }

    pub(in super::super) fn heal(&mut self, from: &str, to: &str) {
        let link = (self.host(from), self.host(to));
        self.cuts.remove(&link);
        for (from, to, event) in mem::take(&mut self.held) {
            if (from, to) == link {
                let delay = self.travel();
                self.events.add(self.now + delay, event);
            } else {
                self.held.push((from, to, event));
            }
        }
    }

    pub(in super::super) fn heal_all(&mut self) {
        self.cuts.clear();
        for (_, _, event) in mem::take(&mut self.held) {
            let delay = self.travel();
            self.events.add(self.now + delay, event);
        }
    }

    /// Breaks the ends at `at` of connections with `peer`.
    pub(in super::super) fn break_ends(&mut self, at: &str, peer: &str) -> usize {
        let ends = self.ends(at, peer);
        for id in &ends {
            self.fail(*id, io::ErrorKind::ConnectionReset);
            if let Some(end) = self.sockets.get_mut(id) {
                end.outbox.clear();
            }
        }
        ends.len()
    }

    /// Breaks them, and lets what they have sent arrive late.
    pub(in super::super) fn strand(&mut self, at: &str, peer: &str, late: Duration) -> usize {
        let (ends, until) = (self.ends(at, peer), self.now + late);
        for id in &ends {
            self.fail(*id, io::ErrorKind::ConnectionReset);
            if let Some(end) = self.sockets.get_mut(id) {
                end.late = until;
            }
        }
        ends.len()
    }

    /// The living ends at `at` of connections with `peer`.
    fn ends(&mut self, at: &str, peer: &str) -> Vec<SocketId> {
        let (at, peer) = (self.host(at), self.host(peer));
        let is_between = |end: &Socket| end.host == at && end.peer_host == peer && !end.is_dead();
        self.sockets.iter().filter(|(_, end)| is_between(end)).map(|(id, _)| *id).collect()
    }

    /// Puts a packet on its way behind the others of its connection.
    pub(in super::super) fn send(&mut self, from: SocketId, packet: Packet) {
        let at = self.now + self.travel();
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.newest = socket.newest.max(at);
            socket.outbox.push_back(packet);
            self.events.add(socket.newest, Event::Arrival(from));
        }
    }

    /// Sends bytes in pieces.
    pub(in super::super) fn send_data(&mut self, from: SocketId, mut data: Vec<u8>) {
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.unread_by_peer += data.len();
        }
        while self.links.fragments && data.len() > 1 {
            let largest = match self.random.below(4) {
                0 => 8,
                1 => 256,
                _ => break,
            };
            let rest = data.split_off(1 + self.below(largest.min(data.len() - 1)));
            self.send(from, Packet::Data(mem::replace(&mut data, rest)));
        }
        self.send(from, Packet::Data(data));
    }

    /// What the system does when a program closes a socket, or ends.
    pub(in super::super) fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let resets = socket.has_unread();
        let silent = socket.peer.is_none() || socket.is_dead() || (socket.fin_sent && !resets);
        socket.owner = None;
        if !silent {
            self.send(id, if resets { Packet::Reset } else { Packet::Fin });
        }
        self.bury(id);
    }

    /// Makes a socket's driver report it.
    pub(in super::super) fn wake(&mut self, id: SocketId, readiness: Readiness) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if let (Some(owner), Some(token)) = (socket.owner, socket.token)
            && let Some(ready) = self.ready.get_mut(&owner)
        {
            ready.push(Ready::Stream(token, readiness));
        }
    }

    pub(super) fn arrive(&mut self, from: SocketId) {
        let Some(socket) = self.sockets.get(&from) else { return };
        let link = (socket.host, socket.peer_host);
        if self.cuts.contains(&link) {
            return self.held.push((link.0, link.1, Event::Arrival(from)));
        }
        if self.now < socket.late {
            return self.events.add(socket.late, Event::Arrival(from));
        }
        let Some(socket) = self.sockets.get_mut(&from) else { return };
        let (packet, to) = (socket.outbox.pop_front(), socket.peer);
        self.trace.add(from.0);
        match (packet, to) {
            (Some(Packet::Connect(address)), _) => self.knock(from, &address),
            (Some(packet), Some(to)) => self.deliver(link.1, from, to, packet),
            (Some(_) | None, _) => {}
        }
        self.bury(from);
    }

    /// A connect has come to where somebody listens, or does not.
    fn knock(&mut self, from: SocketId, address: &Address) {
        let Some(client) = self.sockets.get(&from) else { return };
        let (client_host, peer_host) = (client.host, client.peer_host);
        let client_address = self.client_address(client_host, address);
        let to = SocketId(self.number());
        let heard = self.listeners.contains_key(address);
        self.see((client_host, peer_host), |from, to| Sight::Knock { from, to, heard });
        let Some(listener) = self.listeners.get_mut(address) else {
            return self.refuse_later(peer_host, from);
        };
        listener.waiting.push_back(to);
        if let Some(ready) = self.ready.get_mut(&listener.owner) {
            ready.push(Ready::Accept(listener.token));
        }
        let listening = listener.host;
        let mut server = Socket::new(listening, listener.owner, client_host, client_address);
        (server.connected, server.peer) = (true, Some(from));
        self.sockets.insert(to, server);
        if let Some(client) = self.sockets.get_mut(&from) {
            // Who asked did not know the host if nobody listened there yet.
            (client.peer, client.peer_host) = (Some(to), listening);
        }
        self.send(to, Packet::Accepted);
    }

    fn deliver(&mut self, host: HostId, from: SocketId, to: SocketId, packet: Packet) {
        if let Packet::Data(data) = &packet {
            self.trace.add_bytes(data);
        }
        self.see_packet(host, from, &packet);
        let Some(socket) = self.sockets.get_mut(&to).filter(|socket| !socket.is_dead()) else {
            // Last words need no answer.
            if !matches!(packet, Packet::Fin | Packet::Reset) {
                self.refuse_later(host, from);
            }
            return;
        };
        let readiness = socket.receive(packet);
        self.wake(to, readiness);
    }

    fn see_packet(&mut self, to: HostId, from: SocketId, packet: &Packet) {
        let Some(sender) = self.sockets.get(&from).map(|socket| socket.host) else { return };
        let hosts = (sender, to);
        match packet {
            Packet::Data(data) => self.see(hosts, |sender, to| Sight::Bytes {
                stream: from.0,
                from: sender,
                to,
                data,
            }),
            Packet::Fin => self.see(hosts, |from, to| Sight::Closed { from, to, reset: false }),
            Packet::Reset => self.see(hosts, |from, to| Sight::Closed { from, to, reset: true }),
            Packet::Connect(_) | Packet::Accepted | Packet::Room(_) => {}
        }
    }

    /// A peer that is gone makes no room and says nothing: it is asked now and then.
    pub(in super::super) fn probe_later(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !mem::replace(&mut socket.probing, true) {
            self.events.add(self.now + PROBE_EVERY, Event::Probe(id));
        }
    }

    pub(super) fn probe(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.probing = false;
        let (link, peer) = ((socket.host, socket.peer_host), socket.peer);
        if socket.room(self.links.window).is_ok() || socket.is_dead() {
            return;
        }
        let is_there = peer.and_then(|peer| self.sockets.get(&peer)).is_some_and(|p| !p.is_dead());
        if is_there || self.cuts.contains(&link) {
            self.probe_later(id);
        } else {
            self.refuse_later(link.1, id);
        }
    }

    fn refuse_later(&mut self, host: HostId, to: SocketId) {
        let at = self.now + self.travel();
        self.events.add(at, Event::Refusal(host, to));
    }

    pub(super) fn refuse(&mut self, from: HostId, to: SocketId) {
        let Some(socket) = self.sockets.get(&to) else { return };
        if self.cuts.contains(&(from, socket.host)) {
            return self.held.push((from, socket.host, Event::Refusal(from, to)));
        }
        let error = if socket.connected {
            io::ErrorKind::ConnectionReset
        } else {
            io::ErrorKind::ConnectionRefused
        };
        self.fail(to, error);
    }

    fn fail(&mut self, id: SocketId, error: io::ErrorKind) {
        if let Some(socket) = self.sockets.get_mut(&id).filter(|socket| !socket.is_dead()) {
            let (readiness, hosts) = (socket.fail(error), (socket.host, socket.peer_host));
            self.see(hosts, |at, peer| Sight::Broken { at, peer });
            self.wake(id, readiness);
        }
    }

    /// Forgets a socket that nobody has and from which nothing is under way.
    fn bury(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(|end| end.owner.is_none() && end.outbox.is_empty()) {
            self.sockets.remove(&id);
        }
    }

    fn client_address(&mut self, host: HostId, listening: &Address) -> Address {
        match listening {
            Address::Unix(_) => Address::Unix("".into()),
            Address::Tcp(_) => {
                let (host, port) = (host.to_le_bytes(), self.number().to_le_bytes());
                let ip = [10, 0, host[1], host[0]];
                Address::Tcp((ip, u16::from_le_bytes([port[0], port[1]])).into())
            }
        }
    }

    fn travel(&mut self) -> Duration {
        let spread = self.links.delay_max.saturating_sub(self.links.delay_min);
        self.links.delay_min + self.duration(spread)
    }
}

/// How often a peer that makes no room is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
