//! The checker process as the daemon sees it: started, replaced when it dies or hangs, ended.

use std::io;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{debug, warn};

use crate::channel::Channel;
use crate::checker;
use crate::checker::protocol::{Report, Request, Settings};
use crate::log::LogThrottle;

/// The pause before a checker is started again: the first, which doubles each time, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A checker that has lived for so long is replaced as if it were the first.
const PROVEN: Duration = Duration::from_secs(10);
/// How long a checker may take to end before it is killed.
const FAREWELL: Duration = Duration::from_millis(400);
const STEP: Duration = Duration::from_millis(2);

/// How many reports may wait for the thread that judges; a checker that has more to say waits as well.
pub(super) const MAX_WAITING: usize = 128;

/// What is heard of the checker of a generation.
pub(super) enum Heard {
    Report(u64, Report),
    /// It reports nothing any more, for this reason; empty when it has closed its end.
    Lost(u64, String),
}

/// The checker process, which ends with this.
pub(super) struct Link {
    settings: Settings,
    heard: Sender<Heard>,
    state: State,
    /// Before it is started the next time.
    pause: Duration,
    /// How many have been started.
    generation: u64,
    trouble: LogThrottle,
}

enum State {
    Running {
        child: Child,
        channel: Channel,
        since: Instant,
    },
    /// None is there until this moment.
    Absent(Instant),
}

impl Link {
    /// No checker yet; it is to be started at once.
    pub(super) fn new(settings: Settings, heard: Sender<Heard>, now: Instant) -> Link {
        let (state, trouble) = (State::Absent(now), LogThrottle::after(3));
        Link { settings, heard, state, pause: PAUSE.0, generation: 0, trouble }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Which checker there is; reports of an earlier one do not count.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// When to start the next one, if there is none.
    pub(super) fn starts_at(&self) -> Option<Instant> {
        match self.state {
            State::Running { .. } => None,
            State::Absent(until) => Some(until),
        }
    }

    /// Starts a checker, if that is due. Returns why there is none where that fails.
    ///
    /// # Errors
    /// Those of fork and exec, and of threads.
    pub(super) fn start_if_due(&mut self, now: Instant) -> Result<bool, String> {
        if self.starts_at().is_none_or(|at| at > now) {
            return Ok(false);
        }
        match self.start(now) {
            Ok(()) => Ok(true),
            Err(error) => Err(self.lose(&format!("cannot be started: {error}"), now)),
        }
    }

    fn start(&mut self, now: Instant) -> io::Result<()> {
        let (child, channel) = checker::start()?;
        debug!("checker process {} started", child.id());
        self.generation += 1;
        let (generation, heard, reports) = (self.generation, self.heard.clone(), channel.try_clone()?);
        // From here on, whatever fails ends it.
        self.state = State::Running { child, channel, since: now };
        thread::Builder::new().name("reports".into()).spawn(move || pass_on(&reports, generation, &heard))?;
        let settings = Request::Settings(Box::new(self.settings.clone()));
        match &self.state {
            State::Running { channel, .. } => channel.send(&settings, &[]),
            State::Absent(_) => Ok(()),
        }
    }

    /// Asks it for something. Returns why it cannot be asked, and is gone now.
    pub(super) fn send(&mut self, request: &Request, now: Instant) -> Result<(), String> {
        let State::Running { channel, .. } = &self.state else { return Ok(()) };
        match channel.send(request, &[]) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.lose("hangs", now)),
            Err(_) => Err(self.lose("", now)),
        }
    }

    /// It is of no use any more, for this reason; empty when it has ended. Returns what there is to say of that.
    pub(super) fn lose(&mut self, reason: &str, now: Instant) -> String {
        let mut how = reason.to_owned();
        if let State::Running { child, channel, since } = &mut self.state {
            channel.close();
            // It may be stopped, or hang.
            let ended = end_of(child, if reason.is_empty() { STEP * 25 } else { Duration::ZERO });
            if reason.is_empty() {
                how = ended.map_or_else(|| "has closed its end".to_owned(), |status| format!("has ended: {status}"));
            }
            if now.saturating_duration_since(*since) >= PROVEN {
                self.pause = PAUSE.0;
            }
        }
        let pause = self.pause;
        self.state = State::Absent(now + pause);
        self.pause = (pause * 2).min(PAUSE.1);
        let what = format!("the checker process {how}");
        if let Some(suppressed) = self.trouble.permit(now) {
            let seconds = pause.as_secs_f64();
            warn!("{what}; verdicts stay as they are, and it is started again in {seconds} s{suppressed}");
        }
        what
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let State::Running { child, channel, .. } = &mut self.state {
            channel.close();
            end_of(child, FAREWELL);
        }
    }
}

/// Waits for a process's end for so long, and then kills it. Returns how it ended, if that was by itself.
fn end_of(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let since = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if since.elapsed() < patience => thread::sleep(STEP),
            _ => break,
        }
    }
    // It may have ended just now.
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Passes on what a checker reports, until it ends or says what no checker says.
fn pass_on(reports: &Channel, generation: u64, heard: &Sender<Heard>) {
    let reason = loop {
        match reports.receive::<Report>() {
            Ok(Some((report, _))) if report.is_within_bounds() => {
                if heard.send(Heard::Report(generation, report)).is_err() {
                    return;
                }
            }
            Ok(Some(_)) => break "reports more than there can be".to_owned(),
            Ok(None) => break String::new(),
            Err(error) => break format!("reports nonsense: {error}"),
        }
    };
    // Without a receiver, there is no use for it.
    let _ = heard.send(Heard::Lost(generation, reason));
}
