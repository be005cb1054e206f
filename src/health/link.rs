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
use crate::supervise;

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
    /// None is wanted.
    Unwanted,
}

impl Link {
    /// No checker yet, and none wanted before [`demand`](Link::demand).
    pub(super) fn new(settings: Settings, heard: Sender<Heard>) -> Link {
        let (state, trouble) = (State::Unwanted, LogThrottle::after(3));
        Link { settings, heard, state, pause: PAUSE.0, generation: 0, trouble }
    }

    /// Has a checker started at once, unless there is one, or one is to be started after a pause.
    pub(super) fn demand(&mut self, now: Instant) {
        if matches!(self.state, State::Unwanted) {
            self.state = State::Absent(now);
        }
    }

    /// Ends the checker; none is wanted any more. What it has reported before does not count.
    pub(super) fn end(&mut self) {
        self.say_goodbye();
        self.generation += 1;
        (self.state, self.pause) = (State::Unwanted, PAUSE.0);
    }

    fn say_goodbye(&mut self) {
        if let State::Running { child, channel, .. } = &mut self.state {
            channel.close();
            end_of(child, FAREWELL);
        }
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
            State::Running { .. } | State::Unwanted => None,
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
        supervise::spawn("reports", move || pass_on(&reports, generation, &heard))?;
        let settings = Request::Settings(self.settings.clone());
        match &self.state {
            State::Running { channel, .. } => channel.send(&settings, &[]),
            State::Absent(_) | State::Unwanted => Ok(()),
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
        self.say_goodbye();
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::process::Command;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::checker::protocol::{Answer, Finding, Id, MAX_MEMBERS, MAX_TEXT};
    use crate::pool::health::Verdict;

    /// What is heard of a checker that reports these.
    fn heard_of(reports: &[Report]) -> Vec<Result<Report, String>> {
        let (ours, theirs) = Channel::pair().expect("a channel");
        for report in reports {
            theirs.send(report, &[]).expect("there is room");
        }
        // Dropping it is not enough while another test starts a process, which has a copy for a moment.
        theirs.close();
        let (heard, received) = unbounded();
        pass_on(&ours, 7, &heard);
        drop(heard);
        let what = |heard| match heard {
            Heard::Report(7, report) => Ok(report),
            Heard::Lost(7, reason) => Err(reason),
            Heard::Report(..) | Heard::Lost(..) => panic!("another generation"),
        };
        received.iter().map(what).collect()
    }

    #[test]
    fn a_checker_that_reports_more_than_there_can_be_is_lost_and_none_of_that_is_heard() {
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        let answer = |members: usize| {
            let (verdict, reason, absent, members_are_complete) = (Verdict::Ready, String::new(), false, true);
            let members = vec![address; members];
            let finding =
                Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera: None });
            Report::Checked { id: Id { pool: 0, serial: 0 }, address, finding, took: Duration::ZERO, is_late: false }
        };
        let within = [answer(MAX_MEMBERS), Report::Log("x".repeat(MAX_TEXT))];
        let [first, second] = within.clone();
        assert_eq!(heard_of(&within), [Ok(first.clone()), Ok(second), Err(String::new())]);
        for beyond in [answer(MAX_MEMBERS + 1), Report::Log("x".repeat(MAX_TEXT + 1))] {
            let lost = Err("reports more than there can be".to_owned());
            assert_eq!(heard_of(&[first.clone(), beyond, first.clone()]), [Ok(first.clone()), lost]);
        }
    }

    /// A link to a checker of which there is this end of the channel only.
    fn link(now: Instant) -> (Link, Channel) {
        let (ours, theirs) = Channel::pair().expect("a channel");
        ours.never_wait().expect("a socket");
        let child = Command::new("sleep").arg("60").spawn().expect("a process");
        let settings = Settings { mark: String::new(), prefer_ipv6: false };
        let mut link = Link::new(settings, unbounded().0);
        link.state = State::Running { child, channel: ours, since: now };
        (link, theirs)
    }

    #[test]
    fn a_checker_that_reads_nothing_hangs_and_one_whose_end_is_closed_is_said_to_have_closed_it() {
        let (now, request) = (Instant::now(), Request::ForgetPool { pool: 0 });
        let (mut hung, _unread) = link(now);
        let why = (0..1_000_000).find_map(|_| hung.send(&request, now).err());
        assert_eq!(why.as_deref(), Some("the checker process hangs"));
        let (mut closed, end) = link(now);
        end.close();
        assert_eq!(closed.send(&request, now), Err("the checker process has closed its end".to_owned()));
        for link in [hung, closed] {
            assert!(!link.is_running() && link.starts_at() == Some(now + PAUSE.0));
        }
    }
}
