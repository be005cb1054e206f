//! Weights that follow from how destinations have been.

use std::time::Duration;

use super::{asking, wait_until_judged};
use crate::harness::{names_of, sites, wait_until};

#[test]
fn the_weight_of_a_destination_that_came_back_grows() {
    let (port, [first, second]) = sites();
    let glbd =
        asking(port).args(["--slow-start", "8"]).destinations([&first, &second].map(|it| format!("{it}:2"))).start();
    wait_until_judged(&glbd, &first, "READY");
    assert_eq!(glbd.watch().row(&first).weight_in_force, 2.0, "at the start there is nothing to spare it");
    first.say(503);
    wait_until_judged(&glbd, &first, "DOWN");
    assert_eq!(glbd.watch().row(&first).weight_in_force, 0.0);
    first.say(200);
    wait_until_judged(&glbd, &first, "READY");
    let early = glbd.watch().row(&first).weight_in_force;
    assert!(early < 1.0, "{early}");
    let clients: Vec<_> = (0..8).map(|_| glbd.connect()).collect();
    let served = names_of(&clients).iter().filter(|name| *name == "2").count();
    assert!(served < 4, "{served} of 8 went to the one that came back");
    let mut weights = vec![early];
    wait_until("it has its whole weight", || {
        weights.push(glbd.watch().row(&first).weight_in_force);
        weights.last() == Some(&2.0)
    });
    assert!(weights.is_sorted(), "{weights:?}");
    weights.dedup();
    assert!(weights.len() > 5, "in many steps: {weights:?}");
    assert_eq!(glbd.info().row(&first).weight, 2.0, "as it was set");
}

#[test]
fn a_destination_that_answers_slowly_has_less_weight() {
    let (port, [fast, slow]) = sites();
    slow.delay(Duration::from_millis(100));
    fast.delay(Duration::from_millis(25));
    let glbd = asking(port).args(["-L", "3"]).destinations([&fast, &slow]).start();
    wait_until("the slow one has less weight", || {
        let in_force = glbd.watch().row(&slow).weight_in_force;
        (0.1..0.6).contains(&in_force)
    });
    assert!(glbd.watch().row(&slow).latency > 0.09);
    let clients: Vec<_> = (0..10).map(|_| glbd.connect()).collect();
    assert!(names_of(&clients).iter().filter(|name| *name == "3").count() < 5);
    slow.delay(Duration::from_millis(25));
    wait_until("it has its weight again", || glbd.watch().row(&slow).weight_in_force > 0.7);
}

#[test]
fn a_destination_that_came_back_is_not_the_next_ones_choice_at_each_step() {
    let (port, [first, second, third]) = sites();
    let glbd = asking(port).args(["--slow-start", "20"]).destinations([&first, &second, &third]).start();
    for site in [&first, &second, &third] {
        wait_until_judged(&glbd, site, "READY");
    }
    first.say(503);
    wait_until_judged(&glbd, &first, "DOWN");
    first.say(200);
    wait_until_judged(&glbd, &first, "READY");
    let mut names = Vec::new();
    let weight = || glbd.watch().row(&first).weight_in_force;
    while weight() < 0.5 {
        let before = weight();
        names.extend(names_of(&[glbd.connect()]));
        wait_until("it has more weight", || weight() > before);
        wait_until("the client is gone", || glbd.info().total == 0);
    }
    let served = names.iter().filter(|name| *name == "2").count();
    assert!(served * 4 <= names.len(), "{served} of {}", names.len());
}
