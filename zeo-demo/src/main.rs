//! `zeo-demo`: a notes board that everybody sees change, and the shortest way to learn zeo.
//!
//! Read [`board`] first: it is all that concerns the database. Then [`api`], what it says over
//! HTTP; [`host`], two kinds of program that it runs in unchanged; [`events`], how an open page
//! learns of changes. This file puts them together.

mod api;
mod board;
mod events;
mod host;

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uuid::Uuid;
use zeo_client::Client;
use zeo_server::storage::{self, OpenOptions};
use zeo_server::{RunningServer, Server};

use board::Board;
use events::Events;
use host::{App, Host, Stopper};

/// A shared notes board on a web page.
///
/// Starts a server of its own on a directory, unless --server names one that runs already; several
/// demos on one server show each other's changes at once. Ctrl-C stops it in order.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Uses a server that runs already, instead of one of its own: zeo://HOST:PORT/STORAGE
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// The page's port on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// Where the server of its own keeps the notes; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "./zeo-demo-data")]
    data: PathBuf,

    /// The kind of program that the board runs in
    #[arg(long, value_enum, default_value_t = Host::Evented)]
    host: Host,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "zeo-demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let listener = listen(args.port)?;
    let address = listener.local_addr()?;
    let (url, server) = match &args.server {
        Some(url) => (url.clone(), None),
        None => serve(&args.data).map(|server| (server.url(STORAGE), Some(server)))?,
    };
    let db = connect(&url)?;

    // The host's loop does not run yet. The client has its own, so it can be used already.
    let board = Board::open(db.clone()).map_err(|error| error.to_string())?;
    let notes = board.notes().map_err(|error| error.to_string())?;
    let (events, subscription) = Events::of(&db);
    stop_on_signal(Stopper { events: Arc::clone(&events), address })?;
    say(&format!("loaded {} notes before the host's loop started", notes.len()))?;
    say(&format!("http://{address}"))?;

    args.host.serve(listener, &Arc::new(App { board, events }))?;
    drop(subscription);
    db.close();
    drop(server);
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// Starts a server in this process, for those who have none running.
fn serve(data: &Path) -> Result<RunningServer, Box<dyn Error>> {
    let options = OpenOptions::new(*Uuid::new_v4().as_bytes());
    let storage = storage::open(&data.join(STORAGE), options)?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let builder = Server::builder().storage(STORAGE, Arc::new(storage));
    Ok(builder.listen(anywhere.into()).start()?)
}

fn connect(url: &str) -> Result<Client, Box<dyn Error>> {
    let options = Client::options().label("zeo-demo").wait_timeout(PATIENCE);
    Ok(options.connect(url)?)
}

/// The first signal stops the host in order; a second one ends the process at once, which the
/// database survives.
fn stop_on_signal(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let watch = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            stopper.stop();
        }
        if signals.next().is_some() {
            process::exit(1);
        }
    };
    thread::Builder::new().name("demo-signals".to_owned()).spawn(watch).map(drop)
}

/// What the user is told, who may be a program.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// The storage that the server of our own has.
const STORAGE: &str = "main";

/// How long the database may be out of reach before whoever waits for it is told.
const PATIENCE: Duration = Duration::from_secs(5);
