//! What a thread of the engine does: waits, then gives its halves their turns.

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::shared::Shared;
use crate::sys::{self, Epoll};
use std::sync::atomic::Ordering;

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
        // Each half clears its wake-up before it looks at the tables, but the tables are loaded here: a wake-up that
        // comes after this load makes the next wait return at once.
        let live = shared.live.load_full();
        if let Some(outbound) = &mut outbound {
            outbound.turn(&live, &ready, now);
        }
        if let Some(inbound) = &mut inbound {
            inbound.turn(&live, &ready, now);
        }
    }
}
