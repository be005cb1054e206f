//! What it costs to pick a destination and to give it back, for each policy, alone and while another thread does nothing
//! else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use glbd::address::{Endpoint, Host};
use glbd::pool::health::ShutdownSessions;
use glbd::pool::{Balancing, PolicyKind, Pool, PoolSettings, Rotation, Tried};

/// Clients that come again and again.
const CLIENTS: u32 = 1000;

fn table(policy: PolicyKind, destinations: u32) -> Rotation {
    let table =
        Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(2), watched: false, ..PoolSettings::default() })
            .rotation(Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere });
    for number in 0..destinations {
        let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 3306));
        let endpoint = Endpoint { host: Host::Address(address.ip()), port: address.port() };
        let weight = f64::from(1 + number % 3);
        table.set(&endpoint, address.into(), weight).expect("there is room");
    }
    table
}

fn pick(table: &Rotation, number: u32, now: Instant) {
    let client = IpAddr::from(Ipv4Addr::from(0xc0a8_0000 + number % CLIENTS));
    drop(std::hint::black_box(table.pick(client, &mut Tried::default(), now).leased()));
}

fn picks(criterion: &mut Criterion) {
    let policies = [
        PolicyKind::LeastConnected,
        PolicyKind::RoundRobin,
        PolicyKind::Random,
        PolicyKind::Source,
        PolicyKind::Single,
    ];
    for policy in policies {
        let mut group = criterion.benchmark_group(policy.to_string());
        for destinations in [10, 10_000] {
            let table = table(policy, destinations);
            let now = Instant::now();
            // Twice as many stay as there are destinations, so that counts differ.
            let _held: Vec<_> = (0..2 * destinations)
                .map(|it| table.pick(Ipv4Addr::from(it).into(), &mut Tried::default(), now).leased())
                .collect();
            let mut number = 0;
            let mut next = || {
                number += 1;
                number
            };
            group.bench_function(BenchmarkId::new("alone", destinations), |bencher| {
                bencher.iter(|| pick(&table, next(), now));
            });
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope
                    .spawn(|| (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(|it| pick(&table, it, now)));
                group.bench_function(BenchmarkId::new("beside another thread", destinations), |bencher| {
                    bencher.iter(|| pick(&table, next(), now));
                });
                done.store(true, Ordering::Relaxed);
            });
        }
        group.finish();
    }
}

/// Clients that come for the first time.
fn first_picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(PolicyKind::Source.to_string());
    for destinations in [10, 10_000] {
        let (table, now, mut number) = (table(PolicyKind::Source, destinations), Instant::now(), 0);
        group.bench_function(BenchmarkId::new("a client's first", destinations), |bencher| {
            bencher.iter(|| {
                number += 1;
                drop(std::hint::black_box(
                    table.pick(Ipv4Addr::from(number).into(), &mut Tried::default(), now).leased(),
                ));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, picks, first_picks);
criterion_main!(benches);
