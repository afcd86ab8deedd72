//! A protocol without a reactor: bytes in, events and bytes out.

use crate::{Address, ConnId, Protocol, Transport, arena::Arena};

/// Drives one protocol by hand, as a test or another transport does.
///
/// ```
/// use zeo_reactor::{ByHand, Protocol, Transport};
///
/// /// Lines of text, each acknowledged.
/// #[derive(Default)]
/// struct Lines {
///     input: Vec<u8>,
/// }
///
/// impl Protocol for Lines {
///     type Event = String;
///
///     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
///         self.input.extend_from_slice(data);
///         let lines = data.iter().filter(|&&byte| byte == b'\n').count();
///         transport.write(&b"ok\n".repeat(lines));
///     }
///
///     fn poll_event(&mut self) -> Option<String> {
///         let end = self.input.iter().position(|&byte| byte == b'\n')?;
///         let line = self.input.drain(..=end).take(end).collect();
///         String::from_utf8(line).ok()
///     }
/// }
///
/// let mut lines = ByHand::new(Lines::default());
/// lines.receive(b"one\ntw");
/// assert_eq!(lines.events(), ["one"]);
/// lines.receive(b"o\n");
/// assert_eq!(lines.events(), ["two"]);
/// assert_eq!(lines.sent(), b"ok\nok\n");
/// ```
#[derive(Debug)]
pub struct ByHand<P> {
    protocol: P,
    transport: Transport,
}

impl<P: Protocol> ByHand<P> {
    /// A connection that has just been made, to a peer without a name.
    pub fn new(mut protocol: P) -> Self {
        let id = ConnId(Arena::<()>::new().next_key());
        let mut transport = Transport::new(id, Address::Unix("".into()));
        protocol.connection_made(&mut transport);
        Self { protocol, transport }
    }

    /// Bytes come from the peer. Ignored when the protocol has paused reading or closed the
    /// connection, where a reactor would not read them.
    pub fn receive(&mut self, data: &[u8]) {
        if !data.is_empty() && !self.transport.is_paused() && !self.transport.is_closing() {
            self.protocol.data_received(&mut self.transport, data);
        }
    }

    /// The events since the last time, up to one at which the protocol has paused reading.
    pub fn events(&mut self) -> Vec<P::Event> {
        let mut events = Vec::new();
        while !self.transport.is_paused()
            && let Some(event) = self.protocol.poll_event()
        {
            events.push(event);
        }
        events
    }

    /// The bytes that were sent to the peer since the last time.
    pub fn sent(&mut self) -> Vec<u8> {
        self.transport.output.take()
    }

    /// What the protocol was lent.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }
}
