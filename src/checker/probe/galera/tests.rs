mod conversation;

use std::collections::HashMap;

use super::judge::judge;
use super::refusal::{Context, Kind, kind, refused};
use crate::checker::mysql::{Error, Login, LoginTls, ServerError};
use crate::checker::probe::Answer;
use crate::checker::tls::config;
use crate::config::GaleraOptions;
use crate::pool::health::Verdict;

const FIT: [(&str, &str); 12] = [
    ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so"),
    ("wsrep_ready", "ON"),
    ("wsrep_cluster_status", "Primary"),
    ("wsrep_local_state", "4"),
    ("wsrep_local_state_comment", "Synced"),
    ("wsrep_reject_queries", "NONE"),
    ("wsrep_cluster_state_uuid", "f9a4c9b6-0000-11f1-8de9-0242ac120002"),
    ("wsrep_cluster_conf_id", "7"),
    ("wsrep_cluster_size", "3"),
    ("wsrep_local_recv_queue", "12"),
    ("wsrep_incoming_addresses", "10.0.0.1:3306,,10.0.0.2:3306, 10.0.0.3:3306,AUTO,10.0.0.4:0,unspecified"),
    ("read_only", "OFF"),
];

fn answer(answers: &[(&str, &str)], options: &str) -> Answer {
    let answers: HashMap<_, _> = answers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut chosen = GaleraOptions::default();
    match options {
        "donor=ready" => chosen.donor = Verdict::Ready,
        "donor=avoid" => chosen.donor = Verdict::Avoid,
        "max-recv-queue=11" => chosen.max_recv_queue = Some(11),
        "max-recv-queue=12" => chosen.max_recv_queue = Some(12),
        "donor=down" => chosen.donor = Verdict::Down,
        "read-only=ok" => chosen.read_only_is_fit = true,
        _ => {}
    }
    judge(&answers, &chosen, 0)
}

/// What is said of a server that is fit but for these answers.
fn but_for(differences: &[(&'static str, &'static str)], options: &str) -> (Verdict, String) {
    let Answer { verdict, reason, .. } = answer(&[&FIT[..], differences].concat(), options);
    (verdict, reason)
}

#[test]
fn a_synced_member_is_fit_and_names_the_others() {
    let Answer { verdict, reason, members, galera, .. } = answer(&FIT, "");
    let facts = galera.expect("facts");
    assert_eq!((facts.has_galera, facts.primary, facts.conf_id, facts.size, facts.recv_queue), (true, true, 7, 3, 12));
    assert_eq!(facts.state_uuid, "f9a4c9b6-0000-11f1-8de9-0242ac120002");
    assert_eq!((verdict, reason.as_str()), (Verdict::Ready, ""));
    assert_eq!(members, ["10.0.0.1:3306", "10.0.0.2:3306", "10.0.0.3:3306"]);
}

#[test]
fn a_server_that_has_no_place_for_an_ordinary_client_is_full() {
    let full = |connected: &str, leaving| {
        let answers = [("threads_connected", connected), ("max_connections", "10")];
        let answers: HashMap<_, _> =
            answers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        judge(&answers, &GaleraOptions::default(), leaving)
    };
    assert_eq!(full("9", 0).verdict, Verdict::Ready);
    assert_eq!(full("10", 1).verdict, Verdict::Ready);
    for (connected, leaving) in [("10", 0), ("11", 0), ("11", 1)] {
        let answer = full(connected, leaving);
        assert_eq!(
            (answer.verdict, answer.reason.as_str()),
            (Verdict::Avoid, "Too many connections: max_connections is 10")
        );
    }
    for nonsense in ["", "-1", "many"] {
        assert_eq!(full(nonsense, 0).verdict, Verdict::Ready, "{nonsense}");
    }
    // No limit, which would keep everybody out.
    assert_eq!(answer(&[("threads_connected", "9"), ("max_connections", "0")], "").verdict, Verdict::Ready);
}

#[test]
fn a_server_without_galera_is_fit_when_it_answers() {
    assert_eq!(answer(&[], "").verdict, Verdict::Ready);
    let mariadb = [
        ("wsrep_provider", "none"),
        ("wsrep_ready", "OFF"),
        ("wsrep_cluster_status", "Disconnected"),
        ("wsrep_local_state", "18446744073709551615"),
        ("wsrep_reject_queries", "NONE"),
        ("read_only", "OFF"),
    ];
    assert_eq!(answer(&mariadb, "").verdict, Verdict::Ready);
    assert_eq!(answer(&[("read_only", "ON")], "").verdict, Verdict::Avoid);
}

#[test]
fn what_is_not_fit_says_why() {
    use Verdict::{Avoid, Down, Ready, Spare};
    let donor = [("wsrep_local_state", "2"), ("wsrep_local_state_comment", "Donor/Desynced")];
    let donates = "wsrep_local_state is Donor/Desynced";
    for (differences, options, verdict, reason) in [
        (&[("wsrep_cluster_status", "non-Primary")][..], "", Down, "wsrep_cluster_status is non-Primary"),
        (
            &[("wsrep_cluster_status", "non-Primary"), ("wsrep_local_state", "0"), ("wsrep_ready", "OFF")],
            "",
            Down,
            "wsrep_cluster_status is non-Primary",
        ),
        (&[("wsrep_ready", "OFF")], "", Down, "wsrep_ready is OFF"),
        (&[("wsrep_ready", "")], "", Down, "wsrep_ready is unknown"),
        (
            &[("wsrep_local_state", "1"), ("wsrep_local_state_comment", "Joining")],
            "",
            Down,
            "wsrep_local_state is Joining",
        ),
        (
            &[("wsrep_local_state", "3"), ("wsrep_local_state_comment", "Joined")],
            "",
            Spare,
            "wsrep_local_state is Joined",
        ),
        (&[("wsrep_local_state", "3"), ("wsrep_local_state_comment", "")], "", Spare, "wsrep_local_state is 3"),
        (&[("wsrep_local_state", ""), ("wsrep_local_state_comment", "")], "", Down, "wsrep_local_state is unknown"),
        (&[], "max-recv-queue=12", Ready, ""),
        (&[], "max-recv-queue=11", Spare, "wsrep_local_recv_queue is 12 (more than 11)"),
        (&donor, "donor=avoid", Avoid, donates),
        (&donor, "", Spare, donates),
        (&donor, "donor=ready", Ready, ""),
        (&donor, "donor=down", Down, donates),
        (&[("wsrep_reject_queries", "ALL_KILL")], "", Down, "wsrep_reject_queries is ALL_KILL"),
        (&[("read_only", "ON")], "", Avoid, "read_only is ON"),
        (&[("read_only", "ON")], "read-only=ok", Ready, ""),
        (&[("pxc_maint_mode", "MAINTENANCE")], "", Avoid, "pxc_maint_mode is MAINTENANCE"),
        (&[("pxc_maint_mode", "DISABLED")], "", Ready, ""),
        (&[("read_only", "ON"), ("wsrep_ready", "OFF")], "", Down, "wsrep_ready is OFF"),
    ] {
        assert_eq!(but_for(differences, options), (verdict, reason.to_owned()), "{differences:?} {options}");
    }
}

#[test]
fn numbers_that_are_none_are_facts_all_the_same() {
    let odd = [("wsrep_cluster_size", "99999999999"), ("wsrep_cluster_conf_id", "-1"), ("wsrep_local_recv_queue", "x")];
    let facts = answer(&[&FIT[..], &odd].concat(), "").galera.expect("facts");
    assert_eq!((facts.size, facts.conf_id, facts.recv_queue), (0, 0, 0));
}

fn refusal(code: u16, context: &Context) -> Option<(Verdict, String)> {
    let error = Error::Server(ServerError { code, message: "no".to_owned() });
    refused(&error, context).map(|answer| (answer.verdict, answer.reason))
}

/// All that the issue lists, and what is like them.
#[test]
fn a_refusal_that_concerns_the_watchdog_only_cuts_no_sessions() {
    let login = Context::Login { lacked: None };
    for code in [
        1043,
        1044,
        1045,
        1142,
        1143,
        1226,
        1227,
        1250,
        1251,
        1275,
        1290,
        1396,
        1449,
        1524,
        1698,
        1820,
        1862,
        3118,
        3159,
        3878,
        3955,
        4031 + 1,
        4151,
        4153,
        9999,
    ] {
        for context in [&login, &Context::Question] {
            let (verdict, reason) = refusal(code, context).expect("an answer");
            assert_eq!(verdict, Verdict::Spare, "{code}");
            assert!(reason.contains(&format!("no (error {code})")), "{reason}");
            assert!(reason.ends_with("(clients may still be served)"), "{reason}");
        }
    }
    for code in [1037, 1038, 1040, 1041, 1042, 1129, 1130, 1135, 1203, 1836, 3032] {
        assert_eq!(refusal(code, &login), Some((Verdict::Avoid, format!("no (error {code})"))));
    }
    for code in [1047, 1053, 1077, 1079, 3168] {
        assert_eq!(refusal(code, &login), Some((Verdict::Down, format!("no (error {code})"))));
    }
    // Only these are worse than AVOID.
    assert_eq!((0..=u16::MAX).filter(|code| kind(*code) == Kind::Unfit).count(), 5);
    assert_eq!(refusal(1927, &login), None);
}

#[test]
fn a_reason_names_what_the_login_lacked() {
    let lacked = |what: &str| Context::Login { lacked: Some(what.to_owned()) };
    let expected = "cannot log in: no (error 1045); without TLS (clients may still be served)";
    assert_eq!(refusal(1045, &lacked("without TLS")), Some((Verdict::Spare, expected.to_owned())));
    let plugin = Error::Unsuited("the account's authentication plugin 'parsec' is not supported".to_owned());
    let answer = refused(&plugin, &Context::Login { lacked: None }).expect("an answer");
    assert_eq!(answer.verdict, Verdict::Spare);
    assert!(answer.reason.starts_with("cannot log in: the account's authentication plugin 'parsec' is not supported"));
    assert!(refused(&Error::Protocol(String::new()), &lacked("")).is_none());
}

#[test]
fn a_login_lacks_tls_or_a_certificate_or_nothing() {
    let lacked = |has_certificate: Option<bool>, tls_failure| {
        let tls = has_certificate.map(|has_certificate| LoginTls {
            config: config(None, None).expect("TLS"),
            required: false,
            verified: false,
            has_certificate,
        });
        let login = Login { user: "monitor".to_owned(), password: "secret".to_owned(), tls };
        match Context::login(&login, tls_failure) {
            Context::Login { lacked } => lacked.unwrap_or_default(),
            Context::Question => "a question".to_owned(),
        }
    };
    assert_eq!(lacked(None, None), "without TLS");
    assert_eq!(lacked(Some(true), Some("an alert")), "without TLS, which failed: an alert");
    assert_eq!(lacked(Some(false), None), "without a client certificate");
    assert_eq!(lacked(Some(true), None), "");
}
