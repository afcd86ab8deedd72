//! What reactors and their world hold, counted, so that a simulation can see that nothing leaks.

use super::World;
use crate::{Context, Reactor};

/// How much a reactor holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections, made or being made.
    pub connections: usize,
    /// Timers of the application.
    pub timers: usize,
    /// The reactor's own timers.
    pub limits: usize,
    /// Jobs in stages.
    pub jobs: usize,
}

/// How much a world holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldHeld {
    /// Ends of connections.
    pub sockets: usize,
    /// Listeners.
    pub listeners: usize,
    /// Stages.
    pub stages: usize,
    /// Packets that wait for a link to heal.
    pub held_back: usize,
}

impl<S: 'static> Reactor<S> {
    /// What this reactor holds now, for a simulation.
    pub fn held(&mut self) -> Held {
        self.with(|_, cx| Held {
            connections: cx.conns.keys().len(),
            timers: cx.timers.len(),
            limits: cx.limits.len(),
            jobs: cx.jobs(),
        })
    }
}

impl<S> Context<S> {
    fn jobs(&self) -> usize {
        let stages = self.stages.keys();
        stages.into_iter().filter_map(|key| self.stages.get(key)).map(|s| s.report().jobs).sum()
    }
}

impl World {
    /// What there is in this world now.
    pub fn held(&self) -> WorldHeld {
        self.lock().held()
    }
}
