use super::*;

const FIT: [(&str, &str); 8] = [
    ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so"),
    ("wsrep_ready", "ON"),
    ("wsrep_cluster_status", "Primary"),
    ("wsrep_local_state", "4"),
    ("wsrep_local_state_comment", "Synced"),
    ("wsrep_reject_queries", "NONE"),
    ("wsrep_incoming_addresses", "10.0.0.1:3306,,10.0.0.2:3306, 10.0.0.3:3306,AUTO,10.0.0.4:0,unspecified"),
    ("read_only", "OFF"),
];

fn answer(answers: &[(&str, &str)], options: &str) -> Answer {
    let answers: HashMap<_, _> = answers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut chosen = GaleraOptions { defaults_file: None, donor: Verdict::Avoid, read_only_is_fit: false };
    match options {
        "donor=ready" => chosen.donor = Verdict::Ready,
        "donor=down" => chosen.donor = Verdict::Down,
        "read-only=ok" => chosen.read_only_is_fit = true,
        _ => {}
    }
    judge(&answers, &chosen)
}

/// What is said of a server that is fit but for these answers.
fn but_for(differences: &[(&'static str, &'static str)], options: &str) -> (Verdict, String) {
    let Answer { verdict, reason, .. } = answer(&[&FIT[..], differences].concat(), options);
    (verdict, reason)
}

#[test]
fn a_synced_member_is_fit_and_names_the_others() {
    let Answer { verdict, reason, members, .. } = answer(&FIT, "");
    assert_eq!((verdict, reason.as_str()), (Verdict::Ready, ""));
    assert_eq!(members, ["10.0.0.1:3306", "10.0.0.2:3306", "10.0.0.3:3306"]);
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
    use Verdict::{Avoid, Down, Ready};
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
        (
            &[("wsrep_local_state", "1"), ("wsrep_local_state_comment", "Joining")],
            "",
            Down,
            "wsrep_local_state is Joining",
        ),
        (
            &[("wsrep_local_state", "3"), ("wsrep_local_state_comment", "Joined")],
            "",
            Down,
            "wsrep_local_state is Joined",
        ),
        (&donor, "", Avoid, donates),
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
