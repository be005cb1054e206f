//! Carries out what the daemon asks for: a task for each destination of each pool.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::protocol::{Id, ProbeSettings, Report, Request};
use super::task::{COURTESY, Common, PoolChecks, check_when_asked};
use super::{agent, probe};
use crate::address::PeerAddress;
use crate::channel::Channel;
use crate::resolve::{self, Resolver};
use crate::supervise;
use crate::sys;

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
    supervise::spawn("send", move || send(&sending_end, &to_send))?;
    let (requests, mut received) = unbounded_channel();
    supervise::spawn("receive", move || receive(&daemon, &requests))?;
    let Some(Request::Settings(settings)) = received.recv().await else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    probe::take_mark(&settings.mark);
    resolve::prefer_ipv6(settings.prefer_ipv6);
    probe::log_to(reports.clone());
    // Its stderr is the daemon's, where a line would have another format than the log, or go nowhere.
    std::panic::set_hook(Box::new(|panic| probe::warn(&format!("the checker has a defect: {panic}"))));
    let mut pools = Pools::new(reports);
    while let Some(request) = received.recv().await {
        pools.obey(request)?;
    }
    let common = Rc::downgrade(&pools.common);
    drop(pools);
    let since = Instant::now();
    while (common.strong_count() > 0 || probe::are_any_ending()) && since.elapsed() < COURTESY {
        sleep(STEP).await;
    }
    Ok(())
}

/// The pools whose destinations are checked, by their numbers.
struct Pools {
    pools: HashMap<u32, Pool>,
    common: Rc<Common>,
}

struct Pool {
    /// As the next task is to check.
    checks: Rc<PoolChecks>,
    /// The ways to each destination's tasks, which end when these are gone.
    tasks: HashMap<u64, Tasks>,
}

/// What asks a destination, and its agent.
struct Tasks {
    checks: UnboundedSender<bool>,
    agent: Option<UnboundedSender<()>>,
}

impl Pools {
    fn new(reports: Sender<Report>) -> Pools {
        Pools {
            pools: HashMap::new(),
            common: Rc::new(Common { reports, resolver: Resolver::for_pools(resolve::resolve_every) }),
        }
    }

    /// Carries out a request. What is asked of a destination that is not watched is ignored.
    ///
    /// # Errors
    /// `InvalidData` for what a daemon never says: a second [`Request::Settings`], and a destination of no known pool.
    /// Ignoring that one would leave it unchecked, and the daemon waiting for reports.
    fn obey(&mut self, request: Request) -> io::Result<()> {
        let task = |id: Id| self.pools.get(&id.pool)?.tasks.get(&id.serial);
        match request {
            Request::Settings(_) => return Err(io::ErrorKind::InvalidData.into()),
            Request::Pool { pool, settings } => self.add(pool, *settings),
            Request::ForgetPool { pool } => drop(self.pools.remove(&pool)),
            Request::Watch { id, address } => return self.watch(id, address),
            Request::Forget { id } => {
                drop(self.pools.get_mut(&id.pool).map(|pool| pool.tasks.remove(&id.serial)));
            }
            // It fails only when the task has met a defect.
            Request::Check { id, fresh } => drop(task(id).map(|tasks| tasks.checks.send(fresh))),
            Request::AskAgent { id } => drop(task(id).and_then(|tasks| Some(tasks.agent.as_ref()?.send(())))),
        }
        Ok(())
    }

    fn add(&mut self, number: u32, settings: ProbeSettings) {
        let checks = Rc::new(PoolChecks::new(settings, Rc::clone(&self.common)));
        match self.pools.get_mut(&number) {
            Some(pool) => pool.checks = checks,
            None => drop(self.pools.insert(number, Pool { checks, tasks: HashMap::new() })),
        }
    }

    fn watch(&mut self, id: Id, address: PeerAddress) -> io::Result<()> {
        let Some(pool) = self.pools.get_mut(&id.pool) else { return Err(io::ErrorKind::InvalidData.into()) };
        let (checks, received) = unbounded_channel();
        tokio::task::spawn_local(check_when_asked(Rc::clone(&pool.checks), id, address, received));
        let agent = pool.checks.agent.clone().map(|options| {
            let (questions, asked) = unbounded_channel();
            tokio::task::spawn_local(agent::ask_when_asked(Rc::clone(&pool.checks), options, id, address, asked));
            questions
        });
        pool.tasks.insert(id.serial, Tasks { checks, agent });
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::checker::Credentials;
    use crate::checker::protocol::{Finding, Settings};
    use crate::config::{AgentOptions, AgentPlace, GaleraOptions, ProbeSpec, TcpOptions, TlsMode};
    use crate::pool::health::Verdict;

    const WITHIN: Duration = Duration::from_secs(20);

    /// Sends these requests, and returns the reports that follow, as many as are waited for.
    fn reports_on(requests: Vec<Request>, count: usize) -> Vec<Report> {
        let (reports, received) = crossbeam_channel::unbounded();
        let carry_out = async {
            let mut pools = Pools::new(reports);
            requests.into_iter().for_each(|request| pools.obey(request).expect("what a daemon says"));
            let mut heard = Vec::new();
            let since = Instant::now();
            while heard.len() < count && since.elapsed() < WITHIN {
                heard.extend(received.try_iter());
                sleep(STEP).await;
            }
            heard
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, carry_out)
    }

    fn pool(pool: u32, spec: ProbeSpec, timeout: Duration) -> Request {
        let credentials = Credentials::default();
        let settings = ProbeSettings { spec, credentials, timeout, send_proxy: None, agent: None };
        Request::Pool { pool, settings: Box::new(settings) }
    }

    /// Watches and checks the first destination of a pool.
    fn check(pool: u32, address: PeerAddress) -> [Request; 2] {
        let id = Id { pool, serial: 0 };
        [Request::Watch { id, address }, Request::Check { id, fresh: false }]
    }

    /// By pool, what was found.
    fn findings(reports: Vec<Report>) -> Vec<(u32, Finding)> {
        let finding = |report| match report {
            Report::Checked { id, finding, .. } => (id.pool, finding),
            other => panic!("{other:?}"),
        };
        let mut findings: Vec<_> = reports.into_iter().map(finding).collect();
        findings.sort_by_key(|(pool, _)| *pool);
        findings
    }

    /// A script that answers so.
    fn says(answer: &str) -> ProbeSpec {
        // The address is put behind the first word.
        ProbeSpec::Exec(format!(r#"true ; while read -r poll; do [ "$poll" = quit ] && exit; echo {answer}; done"#))
    }

    fn nowhere() -> PeerAddress {
        (Ipv4Addr::LOCALHOST, 1).into()
    }

    #[test]
    fn a_pool_whose_prober_cannot_be_made_does_not_hurt_another() {
        let impossible = ProbeSpec::Galera(GaleraOptions { tls: Some(TlsMode::VerifyCa), ..GaleraOptions::default() });
        let mut requests = vec![pool(1, impossible, WITHIN), pool(2, ProbeSpec::Tcp(TcpOptions::default()), WITHIN)];
        requests.extend(check(1, nowhere()).into_iter().chain(check(2, nowhere())));
        let findings = findings(reports_on(requests, 2));
        assert!(
            matches!(&findings[..], [(1, Finding::Shortage(why)), (2, Finding::Answer(_) | Finding::Silence(_))] if !why.is_empty()),
            "{findings:?}"
        );
    }
    #[test]
    fn a_pool_that_is_replaced_is_checked_otherwise_once_its_destinations_are_watched_anew() {
        let verdict = |finding: &Finding| match finding {
            Finding::Answer(answer) => Some(answer.verdict),
            _ => None,
        };
        let mut requests = vec![pool(1, says("3"), WITHIN), pool(2, says("2"), WITHIN)];
        requests.extend(check(1, nowhere()).into_iter().chain(check(2, nowhere())));
        requests.push(pool(2, says("3"), WITHIN));
        let before = findings(reports_on(requests.clone(), 2));
        let [(1, first), (2, second)] = &before[..] else { panic!("{before:?}") };
        assert_eq!((verdict(first), verdict(second)), (Some(Verdict::Ready), Some(Verdict::Avoid)), "{before:?}");
        requests.truncate(3);
        requests.extend([pool(2, says("2"), WITHIN), check(2, nowhere())[0].clone(), pool(2, says("3"), WITHIN)]);
        requests.extend(check(2, nowhere()));
        let anew = findings(reports_on(requests, 1));
        assert_eq!(
            anew.iter().map(|(pool, finding)| (*pool, verdict(finding))).collect::<Vec<_>>(),
            [(2, Some(Verdict::Ready))]
        );
    }

    #[test]
    fn a_pool_has_its_own_timeout_and_one_that_is_forgotten_is_not_checked() {
        let hangs = || ProbeSpec::Exec("true ; exec sleep 60".to_owned());
        let mut requests = vec![pool(1, hangs(), Duration::ZERO), pool(2, hangs(), WITHIN), pool(3, says("3"), WITHIN)];
        requests.extend(check(2, nowhere()));
        let [watch, check_it] = check(3, nowhere());
        requests.extend([watch, Request::ForgetPool { pool: 3 }, check_it]);
        requests.extend(check(1, nowhere()));
        let findings = findings(reports_on(requests, 1));
        assert!(matches!(&findings[..], [(1, Finding::Silence(_))]), "{findings:?}");
    }

    #[test]
    fn each_question_to_an_agent_is_answered_though_there_is_none_and_one_without_options_is_passed_over() {
        let agent = Some(AgentOptions { place: AgentPlace::Beside(1), interval: WITHIN, send: Vec::new() });
        let Request::Pool { settings, .. } = pool(1, ProbeSpec::Tcp(TcpOptions::default()), WITHIN) else { return };
        let settings = Box::new(ProbeSettings { agent, ..*settings });
        let id = |pool| Id { pool, serial: 0 };
        let watch = |pool| Request::Watch { id: id(pool), address: nowhere() };
        let reports = reports_on(
            vec![
                pool(2, ProbeSpec::Tcp(TcpOptions::default()), WITHIN),
                Request::Pool { pool: 1, settings },
                watch(1),
                watch(2),
                Request::AskAgent { id: id(2) },
                Request::AskAgent { id: id(1) },
            ],
            1,
        );
        let refused = Err("Connection refused (os error 111)".to_owned());
        assert_eq!(reports, [Report::Agent { id: id(1), address: nowhere(), word: refused }]);
    }

    #[test]
    fn what_no_daemon_says_ends_the_checker_and_a_destination_that_is_not_watched_is_passed_over() {
        let mut pools = Pools::new(crossbeam_channel::unbounded().0);
        let id = Id { pool: 7, serial: 0 };
        for request in [
            Request::Check { id, fresh: false },
            Request::Forget { id },
            Request::ForgetPool { pool: 7 },
            pool(8, ProbeSpec::Tcp(TcpOptions::default()), WITHIN),
            Request::Check { id: Id { pool: 8, ..id }, fresh: false },
        ] {
            assert!(pools.obey(request.clone()).is_ok(), "{request:?}");
        }
        let settings = Settings { mark: String::new(), prefer_ipv6: false };
        for request in [Request::Settings(settings), Request::Watch { id, address: nowhere() }] {
            assert!(pools.obey(request.clone()).is_err(), "{request:?}");
        }
    }
}
