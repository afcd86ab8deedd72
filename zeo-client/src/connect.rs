//! Makes clients: reads the URL, looks the host up, and starts the reactor.

use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use zeo_proto::Hello;
use zeo_reactor::{Address, Driver, MioDriver, Reactor, is_blocking_forbidden};

use crate::blocking::wait;
use crate::cache::cache;
use crate::client::Client;
use crate::dispatcher::Dispatcher;
use crate::error::ConnectError;
use crate::link::{Server, State};
use crate::options::Options;
use crate::shared::Shared;
use crate::url::{self, Place};

impl Client {
    /// Starts a client and waits for its first connection.
    pub(crate) fn start(url: &str, options: Options) -> Result<Self, ConnectError> {
        if is_blocking_forbidden() {
            return Err(ConnectError::WouldDeadlock);
        }
        let (place, options) = url::parse(url, options)?;
        let server = server(&options, place.to_string(), resolved(&place)?)?;
        let driver = MioDriver::new().map_err(|error| cannot_start(&error))?;
        let (client, reactor) = build(driver, &options, server, Dispatcher::new(false));
        client.run_reactor(reactor).map_err(|error| cannot_start(&error))?;
        let connected = client.send(|state, cx, sender| state.connect(cx, Some(sender)));
        wait(connected).map(|()| client)
    }

    /// A client whose reactor somebody else drives: for simulations, where no thread is started.
    /// Only [`nb`](Self::nb) is of use then, with
    /// [`Deferred::try_take`](zeo_reactor::Deferred::try_take); callbacks run in
    /// [`deliver`](Self::deliver).
    #[doc(hidden)]
    pub fn on_driver(
        driver: impl Driver + 'static,
        options: &Options,
        addresses: Vec<Address>,
    ) -> Result<(Self, Reactor<State>), ConnectError> {
        let server = server(options, format!("{addresses:?}"), addresses)?;
        let (client, mut reactor) = build(driver, options, server, Dispatcher::new(true));
        reactor.with(|state, cx| state.connect(cx, None));
        Ok((client, reactor))
    }
}

/// Where to connect, and what to say there.
fn server(
    options: &Options,
    name: String,
    addresses: Vec<Address>,
) -> Result<Server, ConnectError> {
    let mut hello = Hello::new(&options.storage)
        .map_err(|error| ConnectError::Refused(format!("the storage's name: {error}")))?;
    hello.label.clone_from(&options.label);
    hello.read_only = options.read_only;
    Ok(Server { name, addresses, hello, wait_timeout: options.wait_timeout })
}

fn build(
    driver: impl Driver + 'static,
    options: &Options,
    server: Server,
    dispatcher: Dispatcher,
) -> (Client, Reactor<State>) {
    let (cache, writer) = cache(options.cache_bytes);
    let shared = Arc::new(Shared::new(cache, Arc::new(dispatcher)));
    let state = State::new(Arc::clone(&shared), writer, server, options);
    let reactor = Reactor::new(driver, state).private();
    (Client::new(reactor.handle(), shared, options), reactor)
}

fn cannot_start(error: &dyn fmt::Display) -> ConnectError {
    ConnectError::Start(error.to_string())
}

/// Looks names up, which may take a while, on the caller's thread.
fn resolved(place: &Place) -> Result<Vec<Address>, ConnectError> {
    let (host, port) = match place {
        Place::Unix(path) => return Ok(vec![Address::Unix(path.clone())]),
        Place::Tcp(host, port) => (host, *port),
    };
    let failed = |reason: String| ConnectError::Resolve { host: host.clone(), reason };
    let found = (host.as_str(), port).to_socket_addrs().map_err(|e| failed(e.to_string()))?;
    let addresses: Vec<_> = found.map(Address::Tcp).collect();
    if addresses.is_empty() { Err(failed("it has none".to_owned())) } else { Ok(addresses) }
}
