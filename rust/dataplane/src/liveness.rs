//! Is a trunk's udp carrier alive? A timer machine: times go in, actions come out (PROTOCOL 8).
//!
//! ```text
//!     Quiet ── sent, nothing heard for 250 ms: 3 probes 100 ms apart ──┐
//!       │  └── nothing heard for 4 s:         3 probes 400 ms apart ──┤
//!       └<── heard ────────────────────────────────────────────── Asking ── no answer ──> Down ── heard ──> Quiet
//! ```

use crate::Nanos;

const MS: Nanos = 1_000_000;
/// Sent and heard nothing for so long: ask (PROTOCOL 8).
pub const SILENCE_NS: Nanos = 250 * MS;
/// Between probes after silence (PROTOCOL 8: 3 fast probes).
const FAST_NS: Nanos = 100 * MS;
/// An idle carrier is asked so often (PROTOCOL 8).
pub const KEEPALIVE_NS: Nanos = 4000 * MS;
/// Between probes of an idle carrier (PROTOCOL 8).
const RETRY_NS: Nanos = 400 * MS;
/// Probes without answer until it is down (PROTOCOL 8).
const PROBES: u8 = 3;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a probe to the remote address.
    Probe,
    /// Nothing answers: say so and use the stream carrier.
    Down,
    /// It answers again.
    Up,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Quiet,
    Asking { since: Nanos, sent: u8, interval: Nanos, next_at: Nanos },
    Down { since: Nanos, next_at: Nanos },
}

/// The machine of one trunk.
#[derive(Debug)]
pub struct Liveness {
    state: State,
    started_at: Nanos, // counts as heard: a new path has just been validated
}

/// When something was last heard (0 = never), and since when something sent is unanswered (0 = nothing is).
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Last authentic packet.
    pub heard_at: Nanos,
    /// First packet sent after it.
    pub unanswered_since: Nanos,
}

impl Liveness {
    /// A carrier that was just chosen.
    pub fn new(now: Nanos) -> Self {
        Self { state: State::Quiet, started_at: now }
    }

    /// What is due; call until None.
    pub fn turn(&mut self, now: Nanos, traffic: Traffic) -> Option<Action> {
        match self.state {
            State::Quiet => {
                let interval = if self.is_silent(now, traffic) {
                    FAST_NS
                } else if now >= self.last(traffic) + KEEPALIVE_NS {
                    RETRY_NS
                } else {
                    return None;
                };
                self.state = State::Asking { since: now, sent: 1, interval, next_at: now + interval };
                Some(Action::Probe)
            }
            State::Asking { since, .. } if traffic.heard_at >= since => {
                self.state = State::Quiet;
                None
            }
            State::Asking { since, sent, interval, next_at } if now >= next_at => {
                if sent < PROBES {
                    self.state = State::Asking { since, sent: sent + 1, interval, next_at: now + interval };
                    return Some(Action::Probe);
                }
                self.state = State::Down { since, next_at: now + KEEPALIVE_NS };
                Some(Action::Down)
            }
            State::Down { since, .. } if traffic.heard_at >= since => {
                self.state = State::Quiet;
                Some(Action::Up)
            }
            State::Down { since, next_at } if now >= next_at => {
                self.state = State::Down { since, next_at: now + KEEPALIVE_NS };
                Some(Action::Probe)
            }
            _ => None,
        }
    }

    /// When `turn` has something to do if no packet changes it.
    pub fn next_deadline(&self, traffic: Traffic) -> Nanos {
        match self.state {
            State::Quiet if traffic.unanswered_since != 0 => {
                (traffic.unanswered_since.max(self.started_at) + SILENCE_NS).min(self.last(traffic) + KEEPALIVE_NS)
            }
            State::Quiet => self.last(traffic) + KEEPALIVE_NS,
            State::Asking { next_at, .. } | State::Down { next_at, .. } => next_at,
        }
    }

    fn is_silent(&self, now: Nanos, traffic: Traffic) -> bool {
        traffic.unanswered_since != 0 && now >= traffic.unanswered_since.max(self.started_at) + SILENCE_NS
    }

    fn last(&self, traffic: Traffic) -> Nanos {
        traffic.heard_at.max(self.started_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs until `end`, jumping from deadline to deadline; returns (ms, action).
    fn run(machine: &mut Liveness, from: Nanos, end: Nanos, traffic: Traffic) -> Vec<(Nanos, Action)> {
        let (mut now, mut actions) = (from, Vec::new());
        while now < end {
            while let Some(action) = machine.turn(now, traffic) {
                actions.push((now / MS, action));
            }
            now = machine.next_deadline(traffic).max(now + 1);
        }
        actions
    }

    #[test]
    fn silence_after_sending_is_down_after_550_ms() {
        use Action::{Down, Probe};
        let mut machine = Liveness::new(0);
        let traffic = Traffic { heard_at: 1000 * MS, unanswered_since: 1100 * MS };
        let actions = run(&mut machine, 1100 * MS, 2000 * MS, traffic);
        assert_eq!(actions, [(1350, Probe), (1450, Probe), (1550, Probe), (1650, Down)]);
    }

    #[test]
    fn an_idle_carrier_is_asked_every_4_s_and_down_after_3_misses() {
        use Action::{Down, Probe};
        let mut machine = Liveness::new(MS);
        let actions = run(&mut machine, MS, 6000 * MS, Traffic::default());
        assert_eq!(actions, [(4001, Probe), (4401, Probe), (4801, Probe), (5201, Down)]);
    }

    #[test]
    fn an_answer_ends_asking_and_brings_a_dead_carrier_back() {
        let mut machine = Liveness::new(0);
        run(&mut machine, 0, 4100 * MS, Traffic::default());
        let heard = Traffic { heard_at: 4050 * MS, unanswered_since: 0 };
        assert_eq!(run(&mut machine, 4100 * MS, 8000 * MS, heard), []);
        let mut machine = Liveness::new(0);
        run(&mut machine, 0, 6000 * MS, Traffic::default());
        let heard = Traffic { heard_at: 6500 * MS, unanswered_since: 0 };
        assert_eq!(run(&mut machine, 6500 * MS, 7000 * MS, heard), [(6500, Action::Up)]);
    }
}
