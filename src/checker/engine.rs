//! Carries out what the daemon asks for: a task for each destination.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::members::Members;
use super::probe::{self, Prober};
use super::protocol::{Answer, Finding, Report, Request, Settings, cut};
use crate::channel::Channel;
use crate::resolve;
use crate::sys;

/// How long a check is waited for that was not answered in time, before it is given up and another may begin. MySQL
/// counts logins that were cut short, and in the end refuses all connections from their host.
const LONGEST_CHECK: Duration = Duration::from_secs(20);
/// How long what the probes have started, and the servers that they are logged in to, may take to say goodbye.
const COURTESY: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(5);
/// How long the daemon may leave everything unread.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Serves the daemon until it closes its end.
pub(super) fn run(daemon: Channel) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(daemon))
}

async fn serve(daemon: Channel) -> io::Result<()> {
    let (reports, to_send) = crossbeam_channel::unbounded();
    let sending_end = daemon.try_clone()?;
    thread::Builder::new().name("send".into()).spawn(move || send(&sending_end, &to_send))?;
    let (requests, mut received) = unbounded_channel();
    thread::Builder::new().name("receive".into()).spawn(move || receive(&daemon, &requests))?;
    let Some(Request::Settings(settings)) = received.recv().await else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let settings = *settings;
    probe::take_mark(&settings.mark);
    resolve::prefer_ipv6(settings.prefer_ipv6);
    probe::log_to(reports.clone());
    let prober = Prober::new(&settings.spec, settings.credentials.clone()).map_err(io::Error::other)?;
    let common = Rc::new(Common { settings, prober, members: Members::default(), reports });
    let mut tasks: HashMap<u64, UnboundedSender<bool>> = HashMap::new();
    while let Some(request) = received.recv().await {
        match request {
            Request::Watch { id, address } => {
                let (checks, received) = unbounded_channel();
                tokio::task::spawn_local(check_when_asked(Rc::clone(&common), id, address, received));
                tasks.insert(id, checks);
            }
            Request::Forget { id } => drop(tasks.remove(&id)),
            // The task ends only after this end is gone.
            Request::Check { id, fresh } => drop(tasks.get(&id).map(|checks| checks.send(fresh))),
            Request::Settings(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    drop(tasks);
    let since = Instant::now();
    while (Rc::strong_count(&common) > 1 || probe::are_any_ending()) && since.elapsed() < COURTESY {
        sleep(STEP).await;
    }
    Ok(())
}

/// Passes on what the daemon asks for, until it closes its end.
fn receive(daemon: &Channel, requests: &UnboundedSender<Request>) {
    while let Ok(Some((request, _))) = daemon.receive() {
        if requests.send(request).is_err() {
            return;
        }
    }
}

/// Sends what the tasks report. Each of them waits for a request before it reports again, so that there are never many.
fn send(daemon: &Channel, reports: &Receiver<Report>) {
    while let Ok(report) = reports.recv() {
        let since = Instant::now();
        while let Err(error) = daemon.send(&report, &[]) {
            // Without a daemon that listens, there is nothing left to do. One that has thousands to ask for may be busy.
            if error.kind() != io::ErrorKind::WouldBlock || since.elapsed() >= LONGEST_SILENCE {
                sys::exit_at_once(1);
            }
        }
    }
}

/// What all tasks use.
struct Common {
    settings: Settings,
    prober: Prober,
    members: Members,
    reports: Sender<Report>,
}

impl Common {
    fn finding(&self, result: io::Result<probe::Answer>, port: u16) -> Finding {
        match result {
            Err(error) if is_ours(&error) => Finding::Shortage(cut(&error.to_string())),
            Err(error) => Finding::Silence(cut(&error.to_string())),
            Ok(answer) => {
                let (members, members_are_complete) = self.members.locate(&answer.members, port);
                let (verdict, absent, galera) = (answer.verdict, answer.absent, answer.galera);
                let reason = cut(&answer.reason);
                Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera })
            }
        }
    }
}

/// Whether it is this machine that kept the probe from being made. That includes a want of ports, which many clients
/// bring about, and of processes.
fn is_ours(error: &io::Error) -> bool {
    sys::is_shortage(error) || matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAGAIN))
}

/// One destination's task: checks it whenever the daemon asks for it, until the daemon forgets it.
async fn check_when_asked(common: Rc<Common>, id: u64, address: SocketAddr, mut checks: UnboundedReceiver<bool>) {
    let mut probe = common.prober.probe(address);
    while let Some(fresh) = checks.recv().await {
        let is_waited_for = probe.is_waited_for();
        let check = Check { common: &common, id, address, is_waited_for };
        if !probe.may_ask() {
            check.send(Finding::Pause, Instant::now(), false);
            continue;
        }
        match check.carry_out(guarded(probe.ask(fresh)), &mut checks).await {
            Progress::Done => {}
            Progress::GivenUp => probe.give_up(),
            // Whatever state it is in.
            Progress::Panicked => probe = common.prober.probe(address),
            Progress::Forgotten => break,
        }
    }
    probe.end().await;
}

/// A check under way.
struct Check<'a> {
    common: &'a Common,
    id: u64,
    address: SocketAddr,
    is_waited_for: bool,
}

/// How a check has ended.
enum Progress {
    /// It was answered, or failed.
    Done,
    /// It took too long.
    GivenUp,
    Panicked,
    /// The daemon does not want to know any more.
    Forgotten,
}

impl Check<'_> {
    /// Reports the result, and silence each time that one has been waited for in vain.
    async fn carry_out(&self, asking: impl Future<Output = Guarded>, checks: &mut UnboundedReceiver<bool>) -> Progress {
        let (began, patience) = (Instant::now(), self.common.settings.timeout);
        let mut asking = pin!(asking);
        let mut was_silent = false;
        loop {
            let result = tokio::select! {
                biased;
                result = timeout(patience, &mut asking) => result,
                () = until_forgotten(checks) => return self.forget(asking).await,
            };
            match result {
                Ok(result) => return self.report(result, was_silent, began, true),
                Err(_) => {
                    let reason = format!("no answer within {} s", patience.as_secs_f64());
                    self.send(Finding::Silence(reason), began, was_silent);
                    was_silent = true;
                }
            }
            if !self.is_waited_for || began.elapsed() >= LONGEST_CHECK {
                return Progress::GivenUp;
            }
            // The daemon asks again in its own time; the answer may come first.
            tokio::select! {
                biased;
                result = timeout_at(began + LONGEST_CHECK, &mut asking) => {
                    return result.map_or(Progress::GivenUp, |result| self.report(result, was_silent, began, false));
                }
                next = checks.recv() => if next.is_none() { return self.forget(asking).await },
            }
        }
    }

    /// The daemon does not want the result any more. The check may still finish if that takes little time, because servers
    /// count logins that are cut short.
    async fn forget(&self, asking: Pin<&mut impl Future<Output = Guarded>>) -> Progress {
        if self.is_waited_for {
            // Whatever it finds.
            let _ = timeout(COURTESY, asking).await;
        }
        Progress::Forgotten
    }

    fn send(&self, finding: Finding, began: Instant, is_late: bool) {
        let (id, address, took) = (self.id, self.address, began.elapsed());
        // The receiver lives as long as the process.
        let _ = self.common.reports.send(Report::Checked { id, address, finding, took, is_late });
    }

    /// Reports a result, unless it is silence of which the daemon knows already and for which it does not wait:
    /// nothing `is_due` then.
    fn report(&self, result: Guarded, was_silent: bool, began: Instant, is_due: bool) -> Progress {
        let (result, progress) = match result {
            Some(result) => (result, Progress::Done),
            None => (Err(io::Error::other("the check has met a defect of glbd's")), Progress::Panicked),
        };
        if is_due || result.is_ok() {
            self.send(self.common.finding(result, self.address.port()), began, was_silent);
        }
        progress
    }
}

/// Waits until the daemon forgets the destination. What it asks for meanwhile is what is under way.
async fn until_forgotten(checks: &mut UnboundedReceiver<bool>) {
    while checks.recv().await.is_some() {}
}

/// The result of a check; `None` if it has panicked.
type Guarded = Option<io::Result<probe::Answer>>;

/// Keeps a panic from the other checks. What it leaves behind is not used again.
async fn guarded(mut asking: probe::Asking<'_>) -> Guarded {
    let poll = |context: &mut Context<'_>| {
        let polled = catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    };
    std::future::poll_fn(poll).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_out_on_this_machine_says_nothing_of_the_destination() {
        for (number, ours) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOMEM, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::EAGAIN, true),
            (libc::ECONNREFUSED, false),
            (libc::EHOSTUNREACH, false),
            (libc::ETIMEDOUT, false),
        ] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(is_ours(&error), ours, "{error}");
        }
        assert!(!is_ours(&io::Error::other("the script answers nonsense")));
    }

    #[test]
    fn a_check_that_cannot_be_made_is_no_silence() {
        let (spec, credentials) = (crate::config::ProbeSpec::Tcp, crate::checker::Credentials::default());
        let prober = Prober::new(&spec, credentials.clone()).expect("no credentials are needed");
        let (timeout, mark, prefer_ipv6) = (Duration::ZERO, String::new(), false);
        let settings = Settings { spec, credentials, timeout, mark, prefer_ipv6 };
        let reports = crossbeam_channel::unbounded().0;
        let common = Common { settings, prober, members: Members::default(), reports };
        let failed = |number| common.finding(Err(io::Error::from_raw_os_error(number)), 1);
        assert!(matches!(failed(libc::EMFILE), Finding::Shortage(_)));
        assert!(matches!(failed(libc::ECONNREFUSED), Finding::Silence(_)));
    }
}
