//! A link between two TAPs, in user space: delay, jitter, loss, reordering, duplication and a rate, per direction, with a seed.
//!
//!     link-emulator --a NAMESPACE:INTERFACE --b NAMESPACE:INTERFACE [--seed N] [--a-to-b SETTINGS] [--b-to-a SETTINGS]
//!     link-emulator --ceiling
//!
//! SETTINGS: `delay=MS,jitter=MS,loss=PERCENT,duplicate=PERCENT,reorder=PERCENT,gap=MS,rate=MBIT,queue=MS`, each optional.
//! Prints `ready` when both TAPs exist; at SIGTERM its counters as one JSON object.

mod line;
mod random;
mod tap;

use line::{Counters, Impairment, Line};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tap::Tap;

/// How long a direction sleeps at most before it looks at the stop flag; ours.
const STOP_POLL_NS: u64 = 20_000_000;
/// Frames read before those that are due are written; ours: bounds the delay that a burst adds.
const READ_BATCH: usize = 32;

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

struct Options {
    a: Option<String>,
    b: Option<String>,
    seed: u64,
    a_to_b: Impairment,
    b_to_a: Impairment,
    ceiling: bool,
}

fn main() {
    if let Err(message) = options(std::env::args().skip(1)).and_then(run) {
        eprintln!("link-emulator: {message}");
        std::process::exit(2);
    }
}

fn run(options: Options) -> Result<(), String> {
    tap::prepare_process();
    if options.ceiling {
        return ceiling();
    }
    let (Some(a), Some(b)) = (&options.a, &options.b) else {
        return Err("--a and --b are needed, each NAMESPACE:INTERFACE".into());
    };
    let (a, b) = (open(a)?, open(b)?);
    println!("ready");
    let there = Line::new(options.a_to_b, options.seed);
    let back = Line::new(options.b_to_a, options.seed ^ 0x5555_5555_5555_5555);
    let (there, back) = std::thread::scope(|scope| {
        let other = scope.spawn(|| carry(&b, &a, back));
        (carry(&a, &b, there), other.join().expect("a direction panicked"))
    });
    println!("{{\"a_to_b\":{},\"b_to_a\":{}}}", as_json(&there.counters), as_json(&back.counters));
    Ok(())
}

/// Carries frames one way until the process is told to stop.
fn carry(from: &Tap, to: &Tap, mut line: Line) -> Line {
    tap::prepare_thread();
    let start = Instant::now();
    let clock = || start.elapsed().as_nanos() as u64;
    let mut buffer = vec![0u8; tap::MAX_FRAME_BYTES];
    while !STOPPED.load(Ordering::Relaxed) {
        let wait = line.next_due().map_or(STOP_POLL_NS, |due| due.saturating_sub(clock()).min(STOP_POLL_NS));
        if wait > 0 {
            from.wait(wait);
        }
        for _ in 0..READ_BATCH {
            match from.read(&mut buffer) {
                Ok(Some(length)) => line.offer(&buffer[..length], clock()),
                _ => break, // nothing now, or the interface is down
            }
        }
        let now = clock();
        while let Some(frame) = line.take_due(now) {
            line.counters.delivered += u64::from(to.write(&frame));
            line.recycle(frame);
        }
    }
    line
}

/// What this emulator can carry on this machine: no impairment, one direction, a sender on another core.
fn ceiling() -> Result<(), String> {
    let (near, far) = ("ptceil0", "ptceil1");
    let error = |e: std::io::Error| format!("{e}");
    let (a, b) = (Tap::open(None, near).map_err(error)?, Tap::open(None, far).map_err(error)?);
    tap::bring_up(near).map_err(error)?;
    tap::bring_up(far).map_err(error)?;
    let mut results = Vec::new();
    for size in [1514usize, 64] {
        STOPPED.store(false, Ordering::Relaxed);
        let mut frame = vec![0u8; size];
        frame[..14].copy_from_slice(b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5");
        let delivered = std::thread::scope(|scope| {
            let sender = scope.spawn(|| tap::flood(near, &frame, || !STOPPED.load(Ordering::Relaxed)));
            let carrier = scope.spawn(|| carry(&a, &b, Line::new(Impairment::default(), 1)));
            std::thread::sleep(Duration::from_secs(1));
            STOPPED.store(true, Ordering::Relaxed);
            sender.join().expect("the sender panicked").map_err(error)?;
            Ok::<u64, String>(carrier.join().expect("the carrier panicked").counters.delivered)
        })?;
        let mbit = delivered as f64 * size as f64 * 8.0 / 1e6;
        results.push(format!("{{\"frame_bytes\":{size},\"frames_per_s\":{delivered},\"mbit_per_s\":{mbit:.0}}}"));
    }
    println!("[{}]", results.join(","));
    Ok(())
}

fn open(end: &str) -> Result<Tap, String> {
    let (path, name) = end.rsplit_once(':').ok_or_else(|| format!("{end:?}: expected NAMESPACE:INTERFACE"))?;
    Tap::open(Some(path), name).map_err(|error| format!("TAP {name} in {path}: {error}"))
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let none = Impairment::default();
    let mut options = Options { a: None, b: None, seed: 1, a_to_b: none.clone(), b_to_a: none, ceiling: false };
    while let Some(name) = arguments.next() {
        if name == "--ceiling" {
            options.ceiling = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--a" => options.a = Some(value),
            "--b" => options.b = Some(value),
            "--seed" => options.seed = value.parse().map_err(|_| format!("--seed {value:?}: a whole number"))?,
            "--a-to-b" => options.a_to_b = impairment(&value)?,
            "--b-to-a" => options.b_to_a = impairment(&value)?,
            _ => return Err(format!("unknown option {name:?}")),
        }
    }
    Ok(options)
}

fn impairment(text: &str) -> Result<Impairment, String> {
    let mut result = Impairment { queue_ns: 50_000_000, gap_ns: 1_000_000, ..Impairment::default() };
    for setting in text.split(',').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('=').ok_or_else(|| format!("{setting:?}: expected key=number"))?;
        let value: f64 = value.parse().map_err(|_| format!("{setting:?}: expected key=number"))?;
        if !(0.0..=1e6).contains(&value) {
            return Err(format!("{setting:?}: out of range"));
        }
        let (ns, share) = ((value * 1e6) as u64, value / 100.0);
        match key {
            "delay" => result.delay_ns = ns,
            "jitter" => result.jitter_ns = ns,
            "loss" => result.loss = share,
            "duplicate" => result.duplicate = share,
            "reorder" => result.reorder = share,
            "gap" => result.gap_ns = ns,
            "rate" => result.rate_bps = (value * 1e6) as u64,
            "queue" => result.queue_ns = ns,
            _ => return Err(format!("unknown setting {key:?}")),
        }
    }
    Ok(result)
}

fn as_json(counters: &Counters) -> String {
    format!(
        "{{\"received\":{},\"lost\":{},\"duplicated\":{},\"reordered\":{},\"queue_full\":{},\"delivered\":{}}}",
        counters.received,
        counters.lost,
        counters.duplicated,
        counters.reordered,
        counters.queue_full,
        counters.delivered
    )
}
