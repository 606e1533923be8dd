//! What a thread of the engine does: waits, then gives its halves their turns.

use std::sync::atomic::Ordering;

use super::inbound::{self, Inbound};
use super::outbound::{self, Outbound};
use super::shared::Shared;
use crate::sys::{self, Epoll};

/// Runs one half or both until the engine stops.
pub(super) fn run(shared: &Shared, epoll: &Epoll, mut outbound: Option<Outbound>, mut inbound: Option<Inbound>) {
    let mut now = sys::now();
    let mut ready = Vec::new();
    loop {
        let deadlines = [outbound.as_ref().and_then(Outbound::deadline), inbound.as_ref().and_then(Inbound::deadline)];
        let timeout = deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(now));
        epoll.wait(timeout, &mut ready);
        now = sys::now();
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        assert!(!shared.panic_wanted.load(Ordering::Relaxed), "a test wanted this panic");
        // Before the tables are looked at, so that no wake-up is lost.
        for (token, wake) in [(outbound::WAKE, &shared.wake_out), (inbound::WAKE, &shared.wake_in)] {
            if ready.iter().any(|r| r.token == token) {
                wake.clear();
            }
        }
        let live = shared.live.load_full();
        if let Some(half) = &mut outbound {
            half.turn(&live, &ready, now);
        }
        if let Some(half) = &mut inbound {
            half.turn(&live, &ready, now);
        }
    }
}
