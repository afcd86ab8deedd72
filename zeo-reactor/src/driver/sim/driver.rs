//! A host's driver in a simulated world.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    lock,
    net::{DriverId, HostId, Listener, Net},
    socket::{Packet, Socket, SocketId},
    stage::SimPool,
};
use crate::{
    Address, StageConfig, Time,
    driver::{Driver, ListenerToken, Pool, Ready, StreamToken, Wake},
};

/// Sockets, clock, threads and randomness of a simulated host. Made by
/// [`World::driver`](super::World::driver).
///
/// Its wait never waits: only the world moves the clock.
pub struct SimDriver {
    net: Arc<Mutex<Net>>,
    host: HostId,
    id: DriverId,
    streams: BTreeMap<StreamToken, SocketId>,
    listeners: BTreeMap<ListenerToken, Address>,
}

impl SimDriver {
    pub(super) fn new(net: Arc<Mutex<Net>>, host: &str) -> Self {
        let (host, id) = lock(&net).add_driver(host);
        Self { net, host, id, streams: BTreeMap::new(), listeners: BTreeMap::new() }
    }

    fn net(&self) -> MutexGuard<'_, Net> {
        lock(&self.net)
    }

    fn socket(&self, token: StreamToken) -> io::Result<SocketId> {
        self.streams.get(&token).copied().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Time {
        self.net().now()
    }

    fn unix_micros(&self) -> u64 {
        self.net().unix_micros(self.host)
    }

    fn seed(&mut self) -> u64 {
        self.net().random()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NobodySleeps)
    }

    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.net().take_ready(self.id, ready);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.net().is_ready(self.id)
    }

    fn listen(&mut self, token: ListenerToken, at: &Address) -> io::Result<Address> {
        let mut net = lock(&self.net);
        let address = picked(&mut net, at);
        if net.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (owner, host) = (self.id, self.host);
        net.listeners.insert(address.clone(), Listener { owner, host, token, waiting: [].into() });
        drop(net);
        self.listeners.insert(token, address.clone());
        Ok(address)
    }

    fn accept(&mut self, from: ListenerToken, stream: StreamToken) -> io::Result<Address> {
        let address = self.listeners.get(&from).ok_or(io::ErrorKind::NotConnected)?;
        let mut net = lock(&self.net);
        let waiting = net.listeners.get_mut(address).and_then(|at| at.waiting.pop_front());
        let id = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        let socket = net.sockets.get_mut(&id).ok_or(io::ErrorKind::ConnectionAborted)?;
        socket.token = Some(stream);
        let (peer, readiness) = (socket.peer_address.clone(), socket.readiness());
        net.wake(id, readiness);
        drop(net);
        self.streams.insert(stream, id);
        Ok(peer)
    }

    fn close_listener(&mut self, token: ListenerToken) {
        if let Some(address) = self.listeners.remove(&token) {
            self.net().close_listener(&address);
        }
    }

    fn connect(&mut self, token: StreamToken, to: &Address) -> io::Result<()> {
        let mut net = lock(&self.net);
        let id = SocketId(net.number());
        let peer_host = net.listeners.get(to).map_or(self.host, |listener| listener.host);
        let mut socket = Socket::new(self.host, self.id, peer_host, to.clone());
        socket.token = Some(token);
        net.sockets.insert(id, socket);
        net.send(id, Packet::Connect(to.clone()));
        drop(net);
        self.streams.insert(token, id);
        Ok(())
    }

    fn finish_connect(&mut self, token: StreamToken) -> io::Result<()> {
        let (id, net) = (self.socket(token)?, self.net());
        net.sockets.get(&id).ok_or(io::ErrorKind::NotConnected)?.connect_result()
    }

    fn read(&mut self, token: StreamToken, into: &mut [u8]) -> io::Result<usize> {
        let (id, mut net) = (self.socket(token)?, self.net());
        let window = net.window();
        let socket = net.sockets.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        let (read, room) = socket.read(into, window)?;
        if room > 0 {
            net.send(id, Packet::Room(room));
        }
        Ok(read)
    }

    fn write(&mut self, token: StreamToken, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let (id, mut net) = (self.socket(token)?, self.net());
        let window = net.window();
        let socket = net.sockets.get(&id).ok_or(io::ErrorKind::NotConnected)?;
        let room = match socket.room(window) {
            Ok(room) => room,
            Err(error) => {
                net.probe_later(id);
                return Err(error);
            }
        };
        let mut data = Vec::new();
        for slice in from {
            let fits = slice.len().min(room - data.len());
            data.extend_from_slice(slice.get(..fits).unwrap_or_default());
        }
        let written = data.len();
        net.send_data(id, data);
        Ok(written)
    }

    fn shutdown(&mut self, token: StreamToken) {
        let Ok(id) = self.socket(token) else { return };
        let mut net = self.net();
        if let Some(socket) = net.sockets.get_mut(&id)
            && !std::mem::replace(&mut socket.fin_sent, true)
        {
            net.send(id, Packet::Fin);
        }
    }

    fn close_stream(&mut self, token: StreamToken) {
        if let Some(id) = self.streams.remove(&token) {
            self.net().close(id);
        }
    }

    fn start_stage(&mut self, config: &StageConfig) -> io::Result<Box<dyn Pool>> {
        Ok(Box::new(SimPool::new(Arc::clone(&self.net), self.host, config)))
    }
}

/// The host's program has ended: the system closes what it had.
impl Drop for SimDriver {
    fn drop(&mut self) {
        self.net().remove_driver(self.id);
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver").field("host", &self.host).finish_non_exhaustive()
    }
}

struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

/// Port 0 asks for a free one.
fn picked(net: &mut Net, at: &Address) -> Address {
    match at {
        Address::Tcp(at) if at.port() == 0 => {
            let number = u16::try_from(net.number() % 25_000).unwrap_or(0);
            Address::Tcp(SocketAddr::new(at.ip(), 40_000 + number))
        }
        Address::Tcp(_) | Address::Unix(_) => at.clone(),
    }
}
