//! Checking signatures of group frames beside the inbound loop, which must never stall.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::drops::DropReason;
use crate::keys::ReceiveKey;
use crate::seal::ContentType;
use crate::sys::EventFd;
use crate::trailer::{self, Node};
use crate::{MemberId, TrunkId, VlanId};

/// Frames that wait for a signature check or for their verdict (ours: 4 MB).
pub const MAX_WAITING: usize = 2048;
/// Of them those under one key by one trunk, so that neither a sender nor who forges its frames fills the queue (ours).
pub const MAX_PER_SENDER: u32 = 1024;
/// Verified roots that are remembered (ours: two flushes of 32 frames each would need two).
const MAX_ROOTS: usize = 64;

/// A group frame whose tag is right; who sent it is not known yet.
pub struct Job {
    /// Whose key opened it.
    pub key: Arc<ReceiveKey>,
    /// For this VLAN.
    pub vlan: VlanId,
    /// The member of that key.
    pub member: MemberId,
    /// The trunk it came by.
    pub trunk: TrunkId,
    /// Its counter.
    pub counter: u64,
    /// What the content is.
    pub content_type: ContentType,
    /// The content without trailer.
    pub content: Vec<u8>,
    /// The tree's root that the frame leads to.
    pub root: Node,
    /// From the trailer.
    pub salt: [u8; 16],
    /// From the trailer.
    pub depth: u8,
    /// From the trailer.
    pub signature: [u8; 64],
}

/// A checked job.
pub struct Verdict {
    /// The job.
    pub job: Job,
    /// Whether the signature is the key owner's.
    pub genuine: bool,
}

/// Finished checks on their way back to the inbound loop.
#[derive(Default)]
pub struct Verdicts(Mutex<VecDeque<Verdict>>);

impl Verdicts {
    /// The oldest verdict.
    pub fn pop(&self) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Adds one; true when none waited, so that the loop must be woken.
    fn push(&self, verdict: Verdict) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(verdict);
        waiting.len() == 1
    }
}

/// The inbound loop's end of the side queue.
pub struct Verifier {
    jobs: SyncSender<Job>,
    waiting: usize,
    /// By key and trunk; at most `MAX_WAITING` entries.
    shares: HashMap<(usize, TrunkId), u32>,
}

impl Verifier {
    /// A queue and its other end.
    pub fn new() -> (Self, Receiver<Job>) {
        let (jobs, receiver) = sync_channel(MAX_WAITING);
        (Self { jobs, waiting: 0, shares: HashMap::new() }, receiver)
    }

    /// Hands a frame over, within the bounds of its share and of all.
    pub fn submit(&mut self, job: Job) -> Result<(), DropReason> {
        let share = job.share();
        let of_share = self.shares.get(&share).copied().unwrap_or_default();
        if self.waiting >= MAX_WAITING || of_share >= MAX_PER_SENDER {
            return Err(DropReason::VerifyFull);
        }
        match self.jobs.try_send(job) {
            Ok(()) => {
                self.waiting += 1;
                self.shares.insert(share, of_share + 1);
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(DropReason::VerifyFull),
        }
    }

    /// Whether a frame of the job's key and trunk waits.
    pub fn has_share_of(&self, job: &Job) -> bool {
        self.shares.contains_key(&job.share())
    }

    /// Notes that a verdict came back.
    pub fn done(&mut self, job: &Job) {
        self.waiting -= 1;
        if let Entry::Occupied(mut share) = self.shares.entry(job.share()) {
            *share.get_mut() -= 1;
            if *share.get() == 0 {
                share.remove();
            }
        }
    }
}

impl Job {
    /// A job keeps its key alive, so that the address names it.
    fn share(&self) -> (usize, TrunkId) {
        (Arc::as_ptr(&self.key) as usize, self.trunk)
    }
}

/// The verify thread: checks until the inbound loop is gone.
pub fn run(jobs: &Receiver<Job>, verdicts: &Verdicts, wake: &EventFd, stop: &AtomicBool) {
    let mut roots = Roots::default();
    while let Ok(job) = jobs.recv() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let genuine = roots.contains(&job) || {
            let message = trailer::message(job.key.names(), job.key.kid(), &job.salt, job.depth, &job.root);
            job.key.verify(&message, &job.signature)
        };
        if genuine {
            roots.add(&job);
        }
        if verdicts.push(Verdict { job, genuine }) {
            wake.signal();
        }
    }
}

/// Roots whose signature was right. Only trees with several frames are worth remembering.
///
/// The keys are named, not kept: one that left the tables is wiped at once.
#[derive(Default)]
pub struct Roots(VecDeque<(Weak<ReceiveKey>, [u8; 16], u8, Node)>);

impl Roots {
    /// Whether the job's root is known under its key.
    pub fn contains(&self, job: &Job) -> bool {
        self.0.iter().any(|(key, salt, depth, root)| {
            key.as_ptr() == Arc::as_ptr(&job.key) && *salt == job.salt && *depth == job.depth && *root == job.root
        })
    }

    /// Remembers the root of a genuine job; the oldest makes room.
    pub fn add(&mut self, job: &Job) {
        if job.depth == 0 || self.contains(job) {
            return;
        }
        if self.0.len() >= MAX_ROOTS {
            self.0.pop_front();
        }
        self.0.push_back((Arc::downgrade(&job.key), job.salt, job.depth, job.root));
    }

    /// Forgets all, when other tables come.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
