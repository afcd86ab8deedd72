//! Connections that come back: after a failure the next address is tried, and after each round of
//! all addresses there is a pause, longer each time.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use crate::{Address, ConnId, ConnectorId, Context, Factory, LostReason};

/// How long to pause between rounds of attempts.
///
/// The pause doubles each time. A random half of it is left out, so that many clients of a server
/// that was away do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The longest pause after the first round.
    pub first: Duration,
    /// The longest pause ever.
    pub most: Duration,
}

/// 50 ms at first, 5 s at most.
impl Default for BackOff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(5) }
    }
}

impl BackOff {
    /// The pause after so many rounds without a good connection, with a number that is random.
    pub fn pause(&self, rounds: usize, random: u64) -> Duration {
        let doublings = u32::try_from(rounds.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.most);
        let half = whole / 2;
        half + half.mul_f64(fraction(random))
    }
}

/// Steers a connection that comes back, from any thread. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Reconnector(Arc<Control>);

#[derive(Debug)]
struct Control {
    addresses: Vec<Address>,
    back_off: BackOff,
    connector: OnceLock<ConnectorId>,
    /// Attempts since the last good connection.
    attempts: AtomicUsize,
    stopped: AtomicBool,
}

impl Reconnector {
    /// The present connection is good, which only the application can tell: after the next loss
    /// the pauses begin anew.
    pub fn is_good(&self) {
        self.0.attempts.store(0, Relaxed);
    }

    /// Makes no more attempts. A connection that is there, or in progress, stays.
    pub fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
    }

    /// Whether no more attempts are made.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
    }

    /// Whether every address has had its attempt since the last pause.
    pub fn is_round_over(&self) -> bool {
        self.attempts().is_multiple_of(self.0.addresses.len().max(1))
    }

    fn attempts(&self) -> usize {
        self.0.attempts.load(Relaxed)
    }

    /// Tries the next address.
    fn attempt<S: 'static>(&self, cx: &mut Context<S>) {
        if self.is_stopped() {
            return self.end(cx);
        }
        let attempt = self.0.attempts.fetch_add(1, Relaxed);
        let address = self.0.addresses.get(attempt % self.0.addresses.len().max(1));
        if let (Some(address), Some(connector)) = (address, self.0.connector.get()) {
            cx.connect_with(*connector, address);
        }
    }

    /// The next address at once, or the next round after a pause.
    fn attempt_again<S: 'static>(&self, cx: &mut Context<S>) {
        if self.is_stopped() || !self.is_round_over() {
            return self.attempt(cx);
        }
        let rounds = self.attempts() / self.0.addresses.len().max(1);
        let pause = self.0.back_off.pause(rounds, cx.random());
        let again = self.clone();
        cx.call_later(pause, move |_, cx| again.attempt(cx));
    }

    fn end<S: 'static>(&self, cx: &mut Context<S>) {
        if let Some(connector) = self.0.connector.get() {
            cx.drop_connector(*connector);
        }
    }
}

impl<S: 'static> Context<S> {
    /// Connects to one of these addresses, and again whenever that fails or the connection is
    /// lost, until it is told to stop. The factory hears of every connection and every failure, and
    /// stops it too when it refuses to build a protocol.
    pub fn reconnect<F: Factory<S>>(
        &mut self,
        addresses: Vec<Address>,
        back_off: BackOff,
        factory: F,
    ) -> Reconnector {
        let reconnector = Reconnector(Arc::new(Control {
            addresses,
            back_off,
            connector: OnceLock::new(),
            attempts: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }));
        let factory = Reconnecting { factory, reconnector: reconnector.clone() };
        let connector = self.connector(factory);
        reconnector.0.connector.set(connector).expect("nobody else knows it yet");
        reconnector.attempt(self);
        reconnector
    }
}

/// A factory that lets its connections come back.
struct Reconnecting<F> {
    factory: F,
    reconnector: Reconnector,
}

impl<S: 'static, F: Factory<S>> Factory<S> for Reconnecting<F> {
    type Protocol = F::Protocol;

    fn build_protocol(&mut self, shared: &mut S, peer: &Address) -> Option<F::Protocol> {
        let protocol = self.factory.build_protocol(shared, peer);
        if protocol.is_none() {
            self.reconnector.stop();
        }
        protocol
    }

    fn connection_made(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {
        self.factory.connection_made(shared, cx, conn);
    }

    fn event(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        conn: ConnId,
        event: <F::Protocol as crate::Protocol>::Event,
    ) {
        self.factory.event(shared, cx, conn, event);
    }

    fn output_drained(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId) {
        self.factory.output_drained(shared, cx, conn);
    }

    fn output_left(&mut self, shared: &mut S, cx: &mut Context<S>, conn: ConnId, bytes: usize) {
        self.factory.output_left(shared, cx, conn, bytes);
    }

    fn connection_lost(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        conn: ConnId,
        reason: LostReason,
    ) {
        self.factory.connection_lost(shared, cx, conn, reason);
        self.reconnector.attempt_again(cx);
    }

    fn connection_failed(
        &mut self,
        shared: &mut S,
        cx: &mut Context<S>,
        to: &Address,
        error: io::Error,
    ) {
        self.factory.connection_failed(shared, cx, to, error);
        self.reconnector.attempt_again(cx);
    }
}

/// A number from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "the highest bits are enough")]
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_pauses_double_up_to_the_cap_and_half_of_each_is_random() {
        let back_off = BackOff::default();
        let expected = [(0, 50), (1, 50), (2, 100), (3, 200), (7, 3_200), (8, 5_000)];
        for (rounds, millis) in expected.into_iter().chain([(usize::MAX, 5_000)]) {
            let whole = Duration::from_millis(millis);
            assert_eq!(back_off.pause(rounds, 0), whole / 2, "{rounds}");
            let longest = back_off.pause(rounds, u64::MAX);
            assert!(longest <= whole && longest > whole * 99 / 100, "{rounds}");
        }
    }
}
