//! The task that checks one destination of a pool whenever the daemon asks for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::members::Members;
use super::probe::{self, Prober};
use super::protocol::{Answer, Finding, Id, ProbeSettings, Report, cut};
use crate::address::{Endpoint, PeerAddress};
use crate::config::AgentOptions;
use crate::resolve::Resolver;
use crate::sys;

/// How long a check is waited for that was not answered in time, before it is given up and another may begin. MySQL
/// counts logins that were cut short, and in the end refuses all connections from their host.
const LONGEST_CHECK: Duration = Duration::from_secs(20);
/// How long what the probes have started, and the servers that they are logged in to, may take to say goodbye.
pub(super) const COURTESY: Duration = Duration::from_millis(200);

/// How often it is looked whether a name is known by now.
const LOOK: Duration = Duration::from_millis(20);

/// What the tasks of all pools use.
pub(super) struct Common {
    pub reports: Sender<Report>,
    /// Bounds the names that are looked up at once.
    pub resolver: Resolver,
}

/// The port of the members that a destination names without one. Those of a server at a UNIX socket are at MySQL's.
fn member_port(destination: PeerAddress) -> u16 {
    const MYSQL: u16 = 3306;
    if destination.is_unix() { MYSQL } else { destination.port() }
}

/// How the destinations of a pool are checked: what its tasks use.
pub(super) struct PoolChecks {
    pub timeout: Duration,
    /// How the agents are asked, if there are any.
    pub agent: Option<AgentOptions>,
    /// Or why there is none. The other pools are checked all the same.
    prober: Result<Prober, String>,
    members: Members,
    pub common: Rc<Common>,
}

impl PoolChecks {
    pub(super) fn new(settings: ProbeSettings, common: Rc<Common>) -> PoolChecks {
        let (timeout, agent) = (settings.timeout, settings.agent.clone());
        let members = Members::new(common.resolver.clone());
        PoolChecks { timeout, agent, prober: Prober::new(settings), members, common }
    }

    /// Where an endpoint is. Waits until that is known.
    pub(super) async fn address_of(&self, endpoint: &Endpoint) -> PeerAddress {
        loop {
            match endpoint.address().or_else(|| self.members.look_up(endpoint.clone())) {
                Some(address) => return address,
                None => sleep(LOOK).await,
            }
        }
    }

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
pub(super) async fn check_when_asked(
    pool: Rc<PoolChecks>,
    id: Id,
    address: PeerAddress,
    mut checks: UnboundedReceiver<bool>,
) {
    let prober = match &pool.prober {
        Ok(prober) => prober,
        Err(reason) => {
            return report_shortage(&Check { pool: &pool, id, address, is_waited_for: false }, reason, checks).await;
        }
    };
    let mut probe = prober.probe(address);
    while let Some(fresh) = checks.recv().await {
        let is_waited_for = probe.is_waited_for();
        let check = Check { pool: &pool, id, address, is_waited_for };
        if !probe.may_ask() {
            check.send(Finding::Pause, Instant::now(), false);
            continue;
        }
        match check.carry_out(guarded(probe.ask(fresh)), &mut checks).await {
            Progress::Done => {}
            Progress::GivenUp => probe.give_up(),
            // Whatever state it is in.
            Progress::Panicked => probe = prober.probe(address),
            Progress::Forgotten => break,
        }
    }
    probe.end().await;
}

/// Answers each request for a check that there is no way to make one.
async fn report_shortage(check: &Check<'_>, reason: &str, mut checks: UnboundedReceiver<bool>) {
    while checks.recv().await.is_some() {
        check.send(Finding::Shortage(cut(reason)), Instant::now(), false);
    }
}

/// A check under way.
struct Check<'a> {
    pool: &'a PoolChecks,
    id: Id,
    address: PeerAddress,
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
        let (began, patience) = (Instant::now(), self.pool.timeout);
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
        let _ = self.pool.common.reports.send(Report::Checked { id, address, finding, took, is_late });
    }

    /// Reports a result, unless it is silence of which the daemon knows already and for which it does not wait:
    /// nothing `is_due` then.
    fn report(&self, result: Guarded, was_silent: bool, began: Instant, is_due: bool) -> Progress {
        let (result, progress) = match result {
            Some(result) => (result, Progress::Done),
            None => (Err(io::Error::other("the check has met a defect of glbd's")), Progress::Panicked),
        };
        if is_due || result.is_ok() {
            self.send(self.pool.finding(result, member_port(self.address)), began, was_silent);
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
pub(super) async fn guarded<T>(mut asking: Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
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
        let spec = crate::config::ProbeSpec::Tcp(crate::config::TcpOptions::default());
        let (credentials, timeout) = (crate::checker::Credentials::default(), Duration::ZERO);
        let settings = ProbeSettings { spec, credentials, timeout, send_proxy: None, agent: None };
        let reports = crossbeam_channel::unbounded().0;
        let common = Rc::new(Common { reports, resolver: Resolver::default() });
        let pool = PoolChecks::new(settings, common);
        let failed = |number| pool.finding(Err(io::Error::from_raw_os_error(number)), 1);
        assert!(matches!(failed(libc::EMFILE), Finding::Shortage(_)));
        assert!(matches!(failed(libc::ECONNREFUSED), Finding::Silence(_)));
    }
}
