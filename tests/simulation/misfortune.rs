//! What befalls a system.

use std::time::Duration;

use crate::plan::Faults;
use crate::system::{GUESTS, SERVER, System};
use crate::watcher;

impl System {
    /// Now and then, something goes wrong.
    pub(crate) fn misfortune(&mut self) {
        let faults = self.plan.faults;
        let dice = self.random.below(2_000);
        match (dice, faults) {
            (_, Faults::None) => {}
            (0..22, _) => self.link_fault(dice),
            (22..23, _) | (29..37, Faults::Stops) => self.close_guest(),
            (23..26, Faults::Deaths | Faults::Disk) => self.death(dice - 23),
            (26..29, Faults::Stops) => self.stop_in_order(),
            (37..40, Faults::Stops | Faults::Deaths) => self.clock_jumps(),
            (40..50, Faults::Disk) => self.disk_fault(),
            _ => {}
        }
    }

    /// From now on nothing goes wrong, and what is wrong is put right.
    pub(crate) fn heal(&mut self) {
        self.note("nothing goes wrong any more");
        self.healed = Some(self.world.now());
        self.heal_links();
        if self.plan.faults == Faults::Disk {
            // A storage whose sync has failed must be opened again.
            self.mend_disk();
            self.server_is_gone();
        }
    }

    fn heal_links(&self) {
        if self.world.held().held_back > 0 {
            self.note("all links heal");
        }
        self.world.heal_all();
    }

    fn link_fault(&mut self, dice: u64) {
        let hosts = self.hosts();
        let (host, world) = (&*hosts[self.below(hosts.len() as u64)], self.world.clone());
        match dice {
            0..5 => self.befalls(host, "connections break", world.reset(SERVER, host) > 0),
            // Whoever watches has no heartbeat, and must hear of everything in the end.
            5..7 | 10..14 if host == watcher::HOST => {}
            5..7 => {
                let is_broken = world.half_open(SERVER, host) > 0;
                self.befalls(host, "connections break at the server", is_broken);
            }
            7..10 => {
                let late = Duration::from_millis(self.random.below(3_000));
                let is_broken = world.strand(host, SERVER, late) > 0;
                self.befalls(host, &format!("is cut off, its bytes come {late:?} late"), is_broken);
            }
            10..12 => {
                world.cut(SERVER, host);
                self.befalls(host, "hears and is heard no more", true);
            }
            12..13 => {
                world.cut_one_way(SERVER, host);
                self.befalls(host, "hears no more", true);
            }
            13..14 => {
                world.cut_one_way(host, SERVER);
                self.befalls(host, "is heard no more", true);
            }
            _ => self.heal_links(),
        }
    }

    /// All hosts but the server's.
    fn hosts(&self) -> Vec<String> {
        let couriers = self.annex.couriers.iter().flat_map(|courier| courier.hosts.clone());
        let guests = self.guests.iter().map(|guest| guest.host.clone());
        guests.chain([watcher::HOST.to_owned()]).chain(couriers).collect()
    }

    fn befalls(&self, host: &str, what: &str, happens: bool) {
        if happens {
            self.note(&format!("{host}: {what}"));
        }
    }

    /// A client is replaced by another.
    fn close_guest(&mut self) {
        let (which, newcomer) = (self.below(GUESTS), self.guest());
        let guest = std::mem::replace(&mut self.guests[which], newcomer);
        self.note(&format!("{} closes", guest.host));
        guest.close(&mut self.random, &mut self.record);
    }

    fn death(&mut self, dice: u64) {
        match dice {
            0 => self.power_fails(),
            1 => self.kill_server(),
            _ => {
                let (which, newcomer) = (self.below(GUESTS), self.guest());
                let guest = std::mem::replace(&mut self.guests[which], newcomer);
                self.note(&format!("{} dies", guest.host));
                guest.die(&mut self.record);
            }
        }
    }

    /// The server's machine comes back with what was synced.
    fn power_fails(&mut self) {
        self.note("the server's power fails");
        self.server_is_gone();
        self.disk.crash();
        self.index.crash(&mut self.random);
        self.annex.power_fails(&mut self.random);
    }

    /// The server's program is killed; what it wrote is there.
    fn kill_server(&mut self) {
        self.note("the server is killed");
        self.server_is_gone();
    }

    fn stop_in_order(&mut self) {
        self.note("the server is asked to stop");
        self.stop_server();
    }

    /// The time of day of the server, from which tids are made, jumps by up to a day.
    fn clock_jumps(&mut self) {
        let base: u64 = 1_893_456_000_000_000;
        let micros = base + self.random.below(2 * 86_400_000_000) - 86_400_000_000;
        self.note("the server's clock jumps");
        self.world.set_unix_micros(SERVER, micros);
    }

    fn disk_fault(&mut self) {
        let count = self.random.below(20);
        match self.random.below(10) {
            0 => {
                self.note("the disk will fail to sync");
                self.disk.fail_sync_in(count);
            }
            1 => {
                self.note("the disk will fail to write");
                self.disk.fail_write_in(count);
            }
            2 => {
                self.note("the disk will fail to read");
                self.disk.fail_read_in(count);
            }
            3 => {
                self.note("the index will fail");
                self.index.fail_change_in(count);
            }
            4 | 5 => {
                self.note("the disk is full");
                self.disk.set_capacity(Some(self.disk.used() + count * 100));
            }
            // Its operator has read the log.
            6 => self.kill_server(),
            7 => self.stop_in_order(),
            _ => {
                self.note("there is room on the disk");
                self.disk.set_capacity(None);
            }
        }
    }
}
