//! Following single frames through the data plane, for diagnosis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::drops::Drops;
use crate::events::{Event, Events};
use crate::frame::{Frame, Mac};
use crate::{Nanos, VlanId, sys};

/// Trace events per call (ours: a diagnosis is read by a person).
const MAX_TRACE_EVENTS: u32 = 1000;

struct Wanted {
    until: Nanos,
    mac: Option<Mac>,
    left: u32,
}

/// Off, it costs one relaxed load per question.
#[derive(Default)]
pub struct Trace {
    on: AtomicBool,
    wanted: Mutex<Option<Wanted>>,
}

impl Trace {
    /// Follows frames from or to a MAC, or all, for some time; zero ends it.
    pub fn start(&self, duration: Nanos, mac: Option<Mac>) {
        let until = sys::now().saturating_add(duration);
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = (duration > 0).then_some(Wanted { until, mac, left: MAX_TRACE_EVENTS });
        self.on.store(duration > 0, Ordering::Relaxed);
    }

    /// Whether anything is followed.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Says one step of a frame, if it is followed. `frame` is None for steps that see no frame, told only when all are followed.
    pub fn say(
        &self,
        (events, drops): (&Events, &Drops),
        frame: Option<&[u8]>,
        vlan: VlanId,
        step: &'static str,
        text: impl FnOnce() -> String,
    ) {
        if !self.is_on() {
            return;
        }
        let now = sys::now();
        let mut guard = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = guard.as_mut().filter(|w| w.left > 0 && now < w.until) else {
            *guard = None;
            self.on.store(false, Ordering::Relaxed);
            return;
        };
        if let Some(mac) = wanted.mac {
            let frame = frame.and_then(Frame::parse_untrusted);
            if !frame.is_some_and(|f| f.src() == mac || f.dst() == mac) {
                return;
            }
        }
        wanted.left -= 1;
        let at_s = now as f64 / 1e9;
        events.push(Event::Trace { at_s, vlan, step, text: text() }, drops);
    }
}
