use super::*;
use proptest::prelude::*;

#[test]
fn answers_are_read_as_glb_reads_them() {
    for (line, verdict, absent, members) in [
        ("0\n", Verdict::Down, true, &[][..]),
        ("1\n", Verdict::Down, false, &[]),
        ("2 a:1\r\n", Verdict::Avoid, false, &["a:1"]),
        ("3 a:1,,b:2,\n", Verdict::Ready, false, &["a:1", "b:2"]),
        (" 3", Verdict::Ready, false, &[]),
    ] {
        let answer = parse(line.as_bytes()).expect("an answer");
        assert_eq!((answer.verdict, answer.absent), (verdict, absent), "{line:?}");
        assert_eq!(answer.members, members, "{line:?}");
    }
}

#[test]
fn what_follows_the_members_is_the_reason() {
    for (line, members, reason) in [
        (
            "2 10.0.0.1:3306,10.0.0.2 donor since 5 minutes\n",
            &["10.0.0.1:3306", "10.0.0.2"][..],
            "donor since 5 minutes",
        ),
        ("2 - donor\n", &[], "donor"),
        ("2 donor since 5 minutes\n", &[], "donor since 5 minutes"),
        ("2 - 10.0.0.1:3306 is the writer\n", &[], "10.0.0.1:3306 is the writer"),
        ("2 node1:3306, node2:3306 full\n", &["node1:3306", "node2:3306"], "full"),
        ("2 [::1]:3306,node2 full\n", &["[::1]:3306", "node2"], "full"),
        ("2 -\n", &[], "the script says 2 (avoid)"),
        ("2 , lonely\n", &[], "lonely"),
        ("2 slow, but alive\n", &[], "slow, but alive"),
        ("2 error:failed again\n", &[], "error:failed again"),
        ("2 :3306 is taken\n", &[], ":3306 is taken"),
        ("2 \u{1b}[2J\n", &[], "?[2J"),
    ] {
        let answer = parse(line.as_bytes()).expect("an answer");
        assert_eq!(
            (answer.members.as_slice(), answer.reason.as_str()),
            (&members.iter().map(|it| it.to_string()).collect::<Vec<_>>()[..], reason),
            "{line:?}"
        );
    }
    let long = format!("1 {}\n", "x".repeat(1000));
    assert_eq!(parse(long.as_bytes()).expect("an answer").reason.len(), MAX_REASON);
}

#[test]
fn nonsense_is_quoted_in_one_line() {
    for line in ["", "\n", "4\n", "-1\n", "33\n", "ready\n", "\u{7}\n"] {
        let error = parse(line.as_bytes()).expect_err("no answer");
        assert!(error.to_string().starts_with("the script answers '"), "{error}");
    }
    let long = parse("x".repeat(1000).as_bytes()).expect_err("no answer").to_string();
    assert!(long.len() < 120, "{long}");
}

#[test]
fn a_script_that_never_answers_is_started_less_and_less_often() {
    let mut probe = Exec::new("watch.sh", "[::1]:3306".parse().expect("an address"));
    assert!(probe.may_ask());
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let before = Instant::now();
        probe.give_up();
        let pause = probe.paused_until.expect("a pause");
        let expected = Duration::from_secs(seconds);
        assert!(pause >= before + expected && pause <= Instant::now() + expected, "{seconds} s");
        assert!(!probe.may_ask());
    }
    probe.paused_until = Some(Instant::now());
    assert!(probe.may_ask(), "the pause is over");
    probe.has_answered = true;
    probe.give_up();
    assert!(probe.may_ask(), "one that has answered is replaced at once");
}

/// What a script answers that is asked twice, and how many times it was started.
fn asked_twice(script: &str) -> ([Result<Verdict, io::ErrorKind>; 2], usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let started = directory.path().join("started");
    let command = format!(": ; echo >>{}; {script}", started.display());
    let mut probe = Exec::new(&command, "[::1]:3306".parse().expect("an address"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = [(); 2].map(|()| {
        let result = runtime.block_on(async { probe.ask(false).await });
        result.map(|answer| answer.verdict).map_err(|error| error.kind())
    });
    (answers, std::fs::read_to_string(&started).expect("it was started").len())
}

#[test]
fn a_script_that_has_ended_after_an_answer_is_replaced_within_the_check_and_no_other() {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    assert_eq!(
        asked_twice("read -r poll; echo 3; read -r poll; echo 2"),
        ([Ok(Verdict::Ready), Ok(Verdict::Avoid)], 1)
    );
    assert_eq!(asked_twice("read -r poll; echo 3"), ([Ok(Verdict::Ready); 2], 2));
    assert_eq!(asked_twice("read -r poll"), ([Err(UnexpectedEof); 2], 2));
    let nonsense = "read -r poll; echo 3; read -r poll; echo nonsense; read -r poll";
    assert_eq!(asked_twice(nonsense), ([Ok(Verdict::Ready), Err(InvalidData)], 1));
}

#[test]
fn the_address_stands_behind_the_first_word() {
    let command = |text| Exec::new(text, "[::1]:3306".parse().expect("an address")).command;
    assert_eq!(command("mysql.sh -utest -ptestpass"), "mysql.sh [::1]:3306 -utest -ptestpass");
    assert_eq!(command("mysql.sh"), "mysql.sh [::1]:3306");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&line);
    }
}
