//! Several pools, watched by one thread.

use super::*;

#[test]
fn each_pool_is_judged_by_its_own_options() {
    let (mut fixture, hasty, patient) = (Fixture::new(), pool(), pool());
    let mut watchdog = fixture.watching(&[(&hasty, AT_ONCE), (&patient, "-w tcp --rise 1 --fall 3")]);
    for pool in [&hasty, &patient] {
        watchdog.hears(pool, Verdict::Ready);
    }
    for pool in [&hasty, &patient] {
        watchdog.hears(pool, Verdict::Down);
    }
    assert_eq!(verdicts(&hasty)[0].1, Some(Verdict::Down));
    assert_eq!(verdicts(&patient)[0].1, Some(Verdict::Avoid), "it takes three");
    watchdog.watch(watch(&hasty, "-w tcp --rise 9 --fall 9"), Instant::now());
    watchdog.hears(&patient, Verdict::Ready);
    watchdog.hears(&hasty, Verdict::Ready);
    assert_eq!(verdicts(&patient)[0].1, Some(Verdict::Ready), "the other's options have changed");
    assert_eq!(verdicts(&hasty)[0].1, Some(Verdict::Down));
}

#[test]
fn a_pool_that_is_forgotten_keeps_its_verdicts_and_the_others_are_watched_on() {
    let (mut fixture, forgotten, watched) = (Fixture::new(), pool(), pool());
    let received = fixture.events.1.clone();
    let mut watchdog = fixture.watching(&[(&forgotten, AT_ONCE), (&watched, AT_ONCE)]);
    watchdog.hears(&forgotten, Verdict::Ready);
    watchdog.forget(forgotten.number());
    for pool in [&forgotten, &watched] {
        watchdog.hears(pool, Verdict::Avoid);
        pool.set(&at(3).into(), at(3), 1.0).expect("there is room");
    }
    assert_eq!((verdicts(&forgotten)[0].1, verdicts(&watched)[0].1), (Some(Verdict::Ready), Some(Verdict::Avoid)));
    for input in received.try_iter() {
        let Input::Pool(event) = input else { panic!("it is told of pools only") };
        watchdog.on_event(event, Instant::now());
    }
    assert!(watchdog.monitor(&watched).is_watched(rows(&watched)[2].id));
    watchdog.watch(watch(&forgotten, AT_ONCE), Instant::now());
    watchdog.hears(&forgotten, Verdict::Avoid);
    assert_eq!(verdicts(&forgotten)[0].1, Some(Verdict::Avoid), "it is watched again");
    forgotten.set(&at(4).into(), at(4), 1.0).expect("there is room");
    assert_eq!(received.try_iter().count(), 1, "events come once");
}

#[test]
fn a_pool_that_is_forgotten_is_freed() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let token = Arc::new(());
    let (alive, held) = (Arc::downgrade(&token), token);
    pool.subscribe(Box::new(move |_| drop(Arc::clone(&held))));
    let number = pool.number();
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    drop(pool);
    assert!(alive.upgrade().is_some());
    watchdog.forget(number);
    assert!(alive.upgrade().is_none());
}

#[test]
fn with_other_options_verdicts_stay_and_counting_begins_anew() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let mut watchdog = fixture.watching(&[(&pool, "-w tcp --rise 1 --fall 2")]);
    watchdog.hears(&pool, Verdict::Ready);
    watchdog.hears(&pool, Verdict::Down);
    assert_eq!(verdicts(&pool)[0].1, Some(Verdict::Avoid));
    let now = Instant::now() + Duration::from_secs(7200);
    watchdog.watch(watch(&pool, "-w http --rise 2 --fall 2"), now);
    assert_eq!(verdicts(&pool), [(1, Some(Verdict::Avoid)), (2, None)]);
    let due = watchdog.watches.pools.values_mut().flat_map(|pool| pool.begin_checks(now)).count();
    assert_eq!(due, 2, "all are checked at once");
    watchdog.hears(&pool, Verdict::Down);
    assert_eq!(verdicts(&pool)[0].1, Some(Verdict::Avoid), "that is the first");
    for verdict in [Verdict::Down, Verdict::Ready, Verdict::Ready] {
        watchdog.hears(&pool, verdict);
    }
    assert_eq!(verdicts(&pool)[0].1, Some(Verdict::Ready), "twice, as the new options say");
}

#[test]
fn first_verdicts_are_told_once_for_each_time_that_a_pool_is_watched() {
    let told = Arc::new(AtomicUsize::new(0));
    let watch_counted = |pool: &Pool| {
        let told = Arc::clone(&told);
        let on_first_verdicts = Box::new(move || _ = told.fetch_add(1, Ordering::Relaxed));
        Watch { on_first_verdicts, ..watch(pool, "-w tcp --rise 1 --fall 1") }
    };
    let (mut fixture, other, pool) = (Fixture::new(), pool(), pool());
    let mut watchdog = fixture.watching(&[(&other, AT_ONCE)]);
    let now = Instant::now();
    let tell = |watchdog: &mut Watchdog<'_>, now| {
        watchdog.watches.pools.values_mut().for_each(|pool| pool.tell_first_verdicts(now));
        told.load(Ordering::Relaxed)
    };
    watchdog.watch(watch_counted(&pool), now);
    watchdog.hears(&pool, Verdict::Ready);
    watchdog.watch(watch_counted(&pool), now);
    assert_eq!(tell(&mut watchdog, now), 0, "the second has not been judged");
    pool.remove(at(2)).expect("it is there");
    let removed = watchdog.watches.pools[&pool.number()].monitor.addresses().nth(1).expect("it is watched").0;
    watchdog.on_event(Event::Removed(removed), now);
    assert_eq!(tell(&mut watchdog, now), 2, "the first that was waiting is not lost");
    watchdog.watch(watch_counted(&pool), now);
    assert_eq!(tell(&mut watchdog, now), 3, "at once");
    pool.set(&at(5).into(), at(5), 1.0).expect("there is room");
    watchdog.watch(watch_counted(&pool), now);
    assert_eq!(tell(&mut watchdog, now), 4, "it is not known to be there yet");
    assert_eq!(tell(&mut watchdog, now + Duration::from_secs(3600)), 4);
}

#[test]
fn all_pools_have_it_noted_that_there_is_no_checker_until_the_first_report() {
    let (mut fixture, first, second, late) = (Fixture::new(), pool(), pool(), pool());
    let mut watchdog = fixture.watching(&[(&first, AT_ONCE), (&second, AT_ONCE)]);
    let notes = || [&first, &second, &late].map(|pool| pool.checks_note().is_some());
    watchdog.checker_is_gone("hangs", Instant::now());
    assert_eq!(notes(), [true, true, false]);
    watchdog.watch(watch(&late, AT_ONCE), Instant::now());
    watchdog.forget(first.number());
    assert_eq!(notes(), [false, true, true]);
    watchdog.hears(&late, Verdict::Ready);
    assert_eq!(notes(), [false, false, false]);
}

/// A pool may have a timeout of a minute.
#[test]
fn a_report_is_late_by_its_own_pools_timeout() {
    let (mut fixture, slow, quick) = (Fixture::new(), pool(), pool());
    let mut watchdog = fixture.watching(&[(&slow, "-w tcp -i 90 --timeout 60"), (&quick, "-w tcp --timeout 1")]);
    let now = Instant::now() + Duration::from_secs(1);
    watchdog.expect_reports(now);
    let mut looks = |pool: &Pool, seconds: u64| {
        let watch = watchdog.watches.pools.get_mut(&pool.number()).expect("it is watched");
        (0..10).filter(|_| watch.finds_checker_hanging(now + Duration::from_secs(seconds))).count()
    };
    assert_eq!((looks(&slow, 50), looks(&quick, 50)), (0, 1));
    assert_eq!(looks(&slow, 70), 1);
}

#[test]
fn a_thread_that_has_met_a_defect_watches_the_same_pools_again() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    drop(fixture.watching(&[(&pool, AT_ONCE)]));
    let mut watchdog = fixture.watchdog();
    watchdog.hears(&pool, Verdict::Ready);
    assert_eq!(verdicts(&pool), [(1, Some(Verdict::Ready)), (2, None)]);
    assert!(watchdog.link.starts_at().is_some(), "and starts a checker");
}

#[test]
fn there_is_a_checker_only_while_a_pool_is_watched() {
    let (mut fixture, first, second) = (Fixture::new(), pool(), pool());
    let mut watchdog = fixture.watchdog();
    assert_eq!((watchdog.link.starts_at(), watchdog.next_deadline()), (None, None));
    for pool in [&first, &second] {
        watchdog.watch(watch(pool, AT_ONCE), Instant::now());
    }
    watchdog.forget(first.number());
    assert!(watchdog.link.starts_at().is_some());
    watchdog.forget(second.number());
    assert_eq!((watchdog.link.starts_at(), watchdog.next_deadline()), (None, None));
}
