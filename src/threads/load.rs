//! What other programs leave free of this machine's processors, measured while this one computes.
//!
//! A thread measures ten times a second: the time that the processors of this process were in use (`/proc/stat`), less
//! what this process used. While fewer are free than there are threads, OpenMP's threads spin only briefly before they
//! sleep, because a thread that spins takes time from those that it waits for. libgomp reads its spin count once, before
//! `main`, but spins a thousandth of the usual few milliseconds while there are more threads than processors
//! (GOMP_SPINCOUNT in its manual). So a team of idle threads is held as long as the machine is busy. Where the user set
//! how threads wait, it is left at that. Our own loops over little data then take one thread, because the second would
//! start late.
//!
//! This changes no number. No crate serves: those for system information measure a whole machine, not what this
//! process may use of it.

use crate::native;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::OnceLock;
use std::thread::{self, Builder, Thread};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(100);
/// So many measurements in a row must find more free processors than before: a pause of another program is short.
const AGREEING: u32 = 3;
/// After so many measurements in which this process did next to nothing, measuring pauses until it computes again.
const IDLE: u32 = 20;
/// The fraction of one processor that is next to nothing.
const NEXT_TO_NOTHING: f64 = 0.05;
/// The variables by which users say how OpenMP's threads wait.
const WAITING: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];
/// No more idle threads than this are held.
const MOST_HELD: usize = 256;

/// The thread that measures; `None` where the system refuses to start one.
static WATCHER: OnceLock<Option<Thread>> = OnceLock::new();
static IS_PAUSED: AtomicBool = AtomicBool::new(false);

/// Keeps measuring while this process computes in `threads` threads.
pub fn watch(threads: usize) {
    let watcher = WATCHER.get_or_init(|| {
        let mut watcher = Watcher::new(threads)?;
        let started = Builder::new().name("load".to_owned()).spawn(move || loop {
            watcher.measure();
        });
        started.ok().map(|handle| handle.thread().clone())
    });
    if let Some(watcher) = watcher.as_ref().filter(|_| IS_PAUSED.swap(false, SeqCst)) {
        watcher.unpark();
    }
}

struct Watcher {
    threads: usize,
    /// The processors that this process may use.
    processors: Vec<usize>,
    before: Sample,
    free: Free,
    idle: u32,
    team: Option<Team>,
}

/// Times since some moment, of all that ran and of this process, in seconds of one processor.
struct Sample {
    at: Instant,
    used: f64,
    own: f64,
}

impl Watcher {
    /// `None` on a system without `/proc/stat`.
    fn new(threads: usize) -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let all: Vec<usize> = processors(&stat).iter().map(|(number, _)| *number).collect();
        let processors: Vec<usize> = allowed(&all);
        let count = processors.len();
        let mut watcher = Watcher {
            threads,
            before: Sample::take(&stat, &processors),
            processors,
            free: Free { count, rising: 0 },
            idle: 0,
            team: None,
        };
        // A first guess, before there is anything to compare with: others than this thread wait for a processor.
        if running(&stat) > all.len() + 1 {
            watcher.follow(1);
        }
        Some(watcher)
    }

    fn measure(&mut self) {
        thread::sleep(PERIOD);
        let Ok(stat) = std::fs::read_to_string("/proc/stat") else { return };
        let now = Sample::take(&stat, &self.processors);
        let seconds = (now.at - self.before.at).as_secs_f64();
        let share = (now.own - self.before.own) / seconds;
        let others = ((now.used - self.before.used) / seconds - share).max(0.0);
        self.before = now;
        if share < NEXT_TO_NOTHING {
            self.pause();
            return;
        }
        self.idle = 0;
        if let Some(free) = self.free.next(self.processors.len() as f64 - others) {
            self.follow(free);
        }
    }

    /// Waits for the next computation if there was none for a while.
    fn pause(&mut self) {
        self.idle += 1;
        if self.idle < IDLE {
            return;
        }
        self.idle = 0;
        IS_PAUSED.store(true, SeqCst);
        while IS_PAUSED.load(SeqCst) {
            thread::park();
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/stat") {
            self.before = Sample::take(&stat, &self.processors);
        }
    }

    fn follow(&mut self, free: usize) {
        self.free.count = free;
        let is_busy = free < self.threads.min(self.processors.len());
        native::set_machine_is_busy(is_busy);
        if !is_busy {
            self.team = None;
        } else if self.team.is_none() && WAITING.iter().all(|name| std::env::var_os(name).is_none()) {
            self.team = Team::hold((native::openmp_processors() + 2).saturating_sub(self.threads));
        }
    }
}

/// The number of free processors, which falls at once and rises slowly.
struct Free {
    count: usize,
    rising: u32,
}

impl Free {
    /// The new number if it is another, after a measurement of `free`.
    fn next(&mut self, free: f64) -> Option<usize> {
        let measured = (free.round().max(1.0)) as usize;
        self.rising = if measured > self.count { self.rising + 1 } else { 0 };
        let changes = measured < self.count || self.rising >= AGREEING;
        changes.then(|| {
            *self = Free { count: measured, rising: 0 };
            measured
        })
    }
}

/// Idle threads of OpenMP, as long as it lives.
struct Team {
    /// Dropped to end them.
    _held: Sender<()>,
}

impl Team {
    /// `None` if the system refuses so many threads. OpenMP would end the program, so they are tried before.
    fn hold(count: usize) -> Option<Self> {
        if !(2..=MOST_HELD).contains(&count) || !can_start(count) {
            return None;
        }
        let (held, ended) = channel::<()>();
        let holder = Builder::new().name("waiting".to_owned());
        let started = holder.spawn(move || {
            native::hold_team(count);
            // Until the sender is dropped.
            let _ = ended.recv();
        });
        started.ok().map(|_| Team { _held: held })
    }
}

fn can_start(count: usize) -> bool {
    thread::scope(|scope| {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        let started = (0..count).map(|_| {
            let wait = wait.clone();
            Builder::new().spawn_scoped(scope, move || {
                let _ = wait.lock().map(|wait| wait.recv());
            })
        });
        let all = started.filter_map(Result::ok).count() == count;
        drop(release);
        all
    })
}

impl Sample {
    fn take(stat: &str, of: &[usize]) -> Self {
        let used = processors(stat).iter().filter(|(number, _)| of.contains(number)).map(|(_, used)| used).sum();
        Sample { at: Instant::now(), used, own: own_seconds() }
    }
}

/// The seconds that all threads of this process ran.
fn own_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time`, which stays as it is where the system has no such clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The number of each processor in `/proc/stat`, with the seconds that it was in use.
pub fn processors(stat: &str) -> Vec<(usize, f64)> {
    // Of USER_HZ, which is 100 on all that libtorch runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let of_line = |line: &str| {
        let (number, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
        let times: Vec<f64> = times.split_whitespace().take(8).map(|time| time.parse().unwrap_or(0.0)).collect();
        let used: f64 = times.iter().enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, time)| time).sum();
        Some((number.parse().ok()?, used / TICKS_PER_SECOND))
    };
    stat.lines().filter_map(of_line).collect()
}

/// Threads of the whole machine that run or wait for a processor.
fn running(stat: &str) -> usize {
    let line = stat.lines().find_map(|line| line.strip_prefix("procs_running "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Those of `all` that this process may use; all where the system does not say.
fn allowed(all: &[usize]) -> Vec<usize> {
    // SAFETY: an empty set is one of zeros, and the call writes no more than its size.
    let (set, failed) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let failed = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0;
        (set, failed)
    };
    // SAFETY: reads within the set, since greater numbers are left out.
    let is_in = |number: usize| number < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(number, &set) };
    all.iter().copied().filter(|number| failed || is_in(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{Layer, Matrix};
    use tch::{Device, Kind as Dtype, Tensor};

    const STAT: &str = "cpu  300 0 100 700 0 0 0 0 0 0\n\
        cpu0 100 20 30 400 50 6 7 8 90 0\n\
        cpu11 200 0 50 300 0 0 0 0 0 0\n\
        intr 1 2 3\nctxt 5\nprocs_running 6\nprocs_blocked 0\n";

    #[test]
    fn times_of_processors_leave_out_what_was_idle() {
        // 100 + 20 + 30 + 6 + 7 + 8 hundredths; the guests' 90 are in the first number.
        assert_eq!(processors(STAT), [(0, 1.71), (11, 2.5)]);
        assert_eq!(running(STAT), 6);
    }

    #[test]
    fn free_processors_fall_at_once_and_rise_after_three_measurements() {
        let mut free = Free { count: 2, rising: 0 };
        assert_eq!(free.next(1.9), None);
        assert_eq!(free.next(0.4), Some(1));
        assert_eq!(free.next(2.0), None);
        assert_eq!(free.next(1.6), None);
        assert_eq!(free.next(1.2), None);
        for _ in 0..2 {
            assert_eq!(free.next(2.0), None);
        }
        assert_eq!(free.next(2.0), Some(2));
    }

    #[test]
    fn results_are_the_same_on_a_busy_machine() {
        let options = (Dtype::Float, Device::Cpu);
        let [x, w, up] = [[600, 64], [172, 64], [600, 172]].map(|sizes| Tensor::randn(sizes, options));
        let weight = Tensor::randn([64], options);
        let results = || {
            let layer = Layer { w: Matrix::Dense(&w), bias: None, segments: &[] };
            let keys = Tensor::zeros([600], (Dtype::Int64, Device::Cpu));
            let product = native::linear(&x, layer, &keys).unwrap();
            let norm = native::rms_norm(&x, &weight, 1e-6).unwrap();
            let heads = x.view([600, 8, 8]);
            let starts = Tensor::from_slice(&[0_i32, 250, 600]);
            let attention = native::document_attention(&heads, &heads, &heads, &starts, 350, None).unwrap();
            [native::swiglu(&product, &up).unwrap(), norm, attention]
        };
        native::set_machine_is_busy(false);
        let quiet = results();
        native::set_machine_is_busy(true);
        let busy = results();
        native::set_machine_is_busy(false);
        assert!(quiet.iter().zip(&busy).all(|(quiet, busy)| quiet.equal(busy)));
    }

    #[test]
    fn a_team_is_held_and_ends() {
        // Threads of OpenMP have the name of the one that starts them. Other tests have threads too.
        let waiting = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.trim() == "waiting").count()
        };
        let becomes = |expected: usize| {
            (0..500).any(|_| {
                thread::sleep(Duration::from_millis(10));
                waiting() == expected
            })
        };
        let team = Team::hold(5).unwrap();
        assert!(becomes(5), "{} threads wait", waiting());
        drop(team);
        assert!(becomes(0), "{} threads wait", waiting());
    }
}
