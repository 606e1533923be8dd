//! Storm control: how many frames for all a port may bring in, and a member send, in a second (SPEC 14.4).

use crate::Nanos;
use crate::bucket::Bucket;
use crate::drops::DropReason;
use crate::frame::{Mac, is_group};

const BROADCAST: Mac = [0xff; 6];
/// So many bytes count as one frame: a super-frame is many.
const FRAME_BYTES: usize = 1500;
/// A bucket holds what comes in a second (SPEC 14.4).
const BURST_NS: Nanos = 1_000_000_000;

/// A kind of frame that goes to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// To ff:ff:ff:ff:ff:ff.
    Broadcast = 0,
    /// To another group address.
    Multicast = 1,
    /// To an address that nobody is known under.
    Unknown = 2,
}

impl Class {
    /// Of a frame that goes to all.
    pub fn of(dst: &Mac) -> Self {
        match dst {
            &BROADCAST => Self::Broadcast,
            dst if is_group(dst) => Self::Multicast,
            _ => Self::Unknown,
        }
    }

    /// The name in events.
    pub fn name(self) -> &'static str {
        ["broadcast", "multicast", "unknown unicast"][self as usize]
    }

    /// Why a frame too many is dropped.
    pub fn reason(self) -> DropReason {
        [DropReason::StormBroadcast, DropReason::StormMulticast, DropReason::StormUnknown][self as usize]
    }
}

/// Frames a second, by class; 0 = as many as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits(pub [u32; 3]);

impl Default for Limits {
    /// 250 broadcasts, 100,000 multicasts, 10,000 unknown ones (ours: docs/decisions/0019).
    fn default() -> Self {
        Self([250, 100_000, 10_000])
    }
}

/// Token buckets of one port or member: each holds one second's frames. One thread takes.
#[derive(Debug, Default)]
pub struct Buckets([Bucket; 3]);

impl Buckets {
    /// Takes a frame of so many bytes.
    pub fn take(&self, limits: &Limits, class: Class, bytes: usize, now: Nanos) -> Result<(), DropReason> {
        let rate = u64::from(limits.0[class as usize]);
        let frames = bytes.div_ceil(FRAME_BYTES) as u64;
        if rate == 0 || self.0[class as usize].take(frames, rate, BURST_NS, now) {
            return Ok(());
        }
        Err(class.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(buckets: &Buckets, class: Class, offered: usize, now: Nanos) -> usize {
        (0..offered).filter(|_| buckets.take(&Limits::default(), class, 60, now).is_ok()).count()
    }

    #[test]
    fn a_class_of_frames_has_its_rate_and_a_seconds_burst_and_leaves_the_others_alone() {
        let buckets = Buckets::default();
        let now = 5 * BURST_NS;
        assert_eq!(passed(&buckets, Class::Broadcast, 5000, now), 250);
        assert_eq!(passed(&buckets, Class::Multicast, 5000, now), 5000);
        assert_eq!(passed(&buckets, Class::Broadcast, 5000, now + BURST_NS / 10), 25);
        assert_eq!(passed(&buckets, Class::Broadcast, 5000, now + 60 * BURST_NS), 250, "not more is saved up");
        assert_eq!(buckets.take(&Limits::default(), Class::Broadcast, 60, now), Err(DropReason::StormBroadcast));
    }

    #[test]
    fn a_super_frame_counts_as_many_and_zero_is_no_limit() {
        let buckets = Buckets::default();
        let limits = Limits([100, 0, 1]);
        assert!((0..10).all(|_| buckets.take(&limits, Class::Broadcast, 15_000, 1).is_ok()));
        assert!(buckets.take(&limits, Class::Broadcast, 60, 1).is_err());
        assert!((0..1000).all(|_| buckets.take(&limits, Class::Multicast, 60, 1).is_ok()));
        assert!(buckets.take(&limits, Class::Unknown, 1400, 1).is_ok());
        assert_eq!(buckets.take(&limits, Class::Unknown, 1400, 1), Err(DropReason::StormUnknown));
    }

    #[test]
    fn frames_for_all_are_of_three_classes() {
        assert_eq!(Class::of(&[0xff; 6]), Class::Broadcast);
        assert_eq!(Class::of(&[0x33, 0x33, 0, 0, 0, 1]), Class::Multicast);
        assert_eq!(Class::of(&[2, 0, 0, 0, 0, 1]), Class::Unknown);
    }
}
