use clap::CommandFactory;
use proptest::prelude::*;

use super::super::keys::{KEYS, Kind};
use super::super::options::Options;
use super::super::{Config, Greeting, PolicyKind, Printed, Refused};
use super::*;

const SMALLEST: &str = "[pool.main]\n[service.main]\nlisten = 3306\n";

/// The complaints about a file, a line each.
fn complaints(text: &str) -> Vec<String> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(complaints) => complaints.iter().map(ToString::to_string).collect(),
    }
}

/// What a command line comes to.
fn of_command_line(words: &[&str]) -> Config {
    let words = ["glbd"].iter().chain(words).map(|word| (*word).to_owned());
    let config = Config::from_command_line(words).expect("a command line");
    // Its words are others.
    Config { printed: Printed::default(), ..config }
}

/// What a file comes to.
fn of_file(text: &str) -> Config {
    let (config, _) = Config::from_text(text, &[]).expect("a file without a fault");
    config
}

fn printed(words: &[&str]) -> String {
    let words = ["glbd"].iter().chain(words).chain(["--print-config"].iter()).map(|word| (*word).to_owned());
    match Config::from_command_line(words) {
        Err(Refused::Show(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_says_the_same_as_a_command_line() {
    let file = r#"
        [process]
        threads = 3
        max-connections = 1_000
        control = "127.0.0.1:8011"
        daemon = true
        drain-timeout = 1.5
        [pool.nodes]
        destinations = ["10.0.0.1", "db2:3307:0.5"]
        watchdog = "galera:donor=avoid"
        rise = 1
        discover = true
        [service.writer]
        pool = "nodes"
        listen = 3306
        policy = "single"
        nodelay = false
        connect-from = ["127.0.0.2", "127.0.0.3"]
    "#;
    let words = [
        "-t3",
        "--max_conn=1000",
        "--control=127.0.0.1:8011",
        "-d",
        "--drain-timeout=1.5",
        "-wgalera:donor=avoid",
        "--rise=1",
        "-D",
        "3306",
        "-S",
        "--nodelay",
        "--connect-from=127.0.0.2,127.0.0.3",
        "10.0.0.1",
        "db2:3307:0.5",
    ];
    let mut of_file = of_file(file);
    assert_eq!((&*of_file.pools[0].name, &*of_file.services[0].name), ("nodes", "writer"));
    // On the command line, they have the default name.
    (of_file.pools[0].name, of_file.services[0].name, of_file.services[0].pool) =
        ("main".into(), "main".into(), "main".into());
    assert_eq!(format!("{of_file:?}"), format!("{:?}", of_command_line(&words)));
}

#[test]
fn several_services_may_share_a_pool_and_others_have_their_own() {
    let file = r#"
        [process]
        threads = 3
        [service.writer]
        pool = "nodes"
        listen = 3306
        policy = "single"
        [service.queue]
        pool = "rabbits"
        listen = "127.0.0.1:5672"
        client-idle-timeout = 7
        [service.reader]
        pool = "nodes"
        listen = 3307
        avoid = "writer"
        [pool.rabbits]
        destinations = ["r1"]
        watchdog = "tcp"
        interval = 3
        [pool.nodes]
        destinations = ["10.0.0.1:3306", "db2:3306:0.5"]
        watchdog = "galera"
    "#;
    let config = of_file(file);
    let names = |names: Vec<&super::super::Name>| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(config.pools.iter().map(|it| &it.name).collect()), ["rabbits", "nodes"]);
    assert_eq!(names(config.services.iter().map(|it| &it.name).collect()), ["writer", "queue", "reader"]);
    assert_eq!(names(config.services.iter().map(|it| &it.pool).collect()), ["nodes", "rabbits", "nodes"]);
    let greetings: Vec<_> = config.services.iter().map(|it| it.connections.greeting).collect();
    assert_eq!(greetings, [Greeting::Mysql, Greeting::None, Greeting::Mysql], "it follows from the pool's watchdog");
    let policies: Vec<_> = config.services.iter().map(|it| (it.policy, it.connections.client_idle_timeout)).collect();
    let seven = Some(std::time::Duration::from_secs(7));
    let least = PolicyKind::LeastConnected;
    assert_eq!(policies, [(PolicyKind::Single, None), (least, seven), (least, None)]);
    assert_eq!(config.pools[0].destinations[0].endpoint.port, 5672, "the port of its only service");
    assert_eq!(config.pools.iter().map(|it| it.interval.as_secs()).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(config.services.iter().map(|it| it.avoid.as_deref()).collect::<Vec<_>>(), [None, None, Some("writer")]);
    assert_eq!(config.threads, 3);
    let (same, printed) = Config::from_text(file, &[]).expect("a file");
    let printed = printed.to_string();
    assert_eq!(format!("{:?}", of_file(&printed)), format!("{same:?}"), "{printed}");
}

#[test]
fn a_service_may_listen_at_several_addresses() {
    let file = "[pool.a]\ndestinations = ['10.0.0.1']\n[service.b]\n";
    let several =
        "[pool.a]\ndestinations = ['10.0.0.1:1']\n[service.b]\nlisten = [3306, '10.0.0.100:3307', '[::1]:3308-3310']\n";
    let config = of_file(several);
    assert_eq!(config.services[0].listen.to_string(), "*:3306, 10.0.0.100:3307, [::1]:3308-3310");
    let same_port = of_file(&format!("{file}listen = ['10.0.0.100:3307', '10.0.0.101:3307']\n"));
    of_file("[pool.a]\n[service.b]\nlisten = 1\ninterface = 'x'\n[service.c]\nlisten = 1\ninterface = 'y'\n");
    assert_eq!(same_port.pools[0].destinations[0].endpoint.port, 3307, "the port of all of them");
}

#[test]
fn what_is_wrong_with_a_pool_is_told_once_however_many_services_use_it() {
    let file = "[pool.a]\ntimeout = 5\n[service.b]\nlisten = 1\n[service.c]\nlisten = 2\n\n\
        [pool.d]\nrise = 2\n[service.e]\nlisten = 3\npool = 'd'\n";
    let file = file.replace("listen = 1", "listen = 1\npool = 'a'").replace("listen = 2", "listen = 2\npool = 'a'");
    let Err(Refused::WrongFile(told)) = Config::from_text(&file, &[]) else { panic!("it is wrong") };
    let needs = "needs checks of the destinations: give watchdog as well";
    assert_eq!(told, [format!("2:11: pool.a.timeout {needs}"), format!("11:8: pool.d.rise {needs}")]);
}

#[test]
fn every_option_can_be_said_in_the_file() {
    // Policies have one key; the others make no sense in a file, or say the same as another one.
    let without_key = [
        "round",
        "random",
        "first",
        "source",
        "single",
        "listen",
        "destinations",
        "config",
        "print-config",
        "print-schema",
        "check",
        "keep-sessions",
        "help",
        "version",
    ];
    let command = Options::command();
    for argument in command.get_arguments() {
        let name = argument.get_long().unwrap_or(argument.get_id().as_str());
        let has_key = KEYS.iter().any(|key| key.option() == name);
        assert!(has_key || without_key.contains(&name), "--{name}");
    }
    for key in
        KEYS.iter().filter(|key| !matches!(key.kind, Kind::Pool | Kind::Service | Kind::Policy | Kind::Destinations))
    {
        let is_argument = |it: &clap::Arg| it.get_long() == Some(key.option()) || it.get_id() == key.option();
        assert!(command.get_arguments().any(is_argument), "{}", key.name);
    }
}

#[test]
fn the_page_about_the_file_has_every_key_and_an_example_without_a_fault() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(page).expect("a page");
    for key in KEYS {
        assert!(page.contains(&format!("`{}`", key.name)), "{}", key.name);
    }
    let lines = page.lines().skip_while(|line| !line.starts_with("    "));
    let example: Vec<&str> = lines.take_while(|line| line.is_empty() || line.starts_with("    ")).collect();
    let config = of_file(&example.join("\n"));
    assert_eq!(config.pools[0].destinations.len(), 3);
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_place() {
    let file = "[process]\nthreads = 0\nusr = \"glbd\"\n\n[pool.main]\ndestinations = [\"db1:3306\", \"db2:0\"]\n\
        interval = \"1\"\nrise = 0\nlisten = 1\n[service.main]\nlisten = 99999\npolicy = \"rr\"\n  quality = true\n";
    let expected = [
        "2:11: process.threads: '0': not a number from 1 to 1024",
        "3:1: process.usr: no such key; did you mean 'user'?",
        "6:16: pool.main.destinations: 'db2:0': '0' is not a port (1 to 65535)",
        "7:12: pool.main.interval: this is a string; it takes a number of seconds",
        "8:8: pool.main.rise: '0': 0 is not in 1..=1000000",
        "9:1: pool.main.listen: it stands below [service.NAME]",
        "11:10: service.main.listen: '99999': '99999' is not a port (1 to 65535)",
        "12:10: service.main.policy: 'rr' is not one of least-connected, round-robin, random, first, source, single",
    ];
    let found = complaints(file);
    assert_eq!(found[..expected.len()], expected);
    assert!(
        found[expected.len()].starts_with("13:3: service.main.quality: no such key; there are listen, pool, policy, ")
    );
    assert_eq!(found.len(), expected.len() + 1);
}

#[test]
fn what_is_no_file_of_ours_is_told() {
    for (text, expected) in [
        ("", "1:1: there is no pool: it begins with [pool.NAME]"),
        ("a = 1", "1:1: no such section 'a': there are [process], [pool.NAME] and [service.NAME]"),
        ("process = 1", "1:1: process is a section, not a value"),
        ("[pool]\nrise = 1", "2:1: pool.rise is a value; keys of a pool stand below its name, as in [pool.main]"),
        ("[pool.'a b']", "1:7: 'a b' is no name for a pool: it takes 1 to 64 letters, digits, '-' and '_'"),
        ("[pool.a]\n[service.b]\npool = 'c'\nlisten = 1", "3:8: service.b.pool: there is no pool 'c'"),
        ("[pool.a]\n[service.b]\ntop = true", "3:1: service.b has no 'listen', where clients connect"),
        ("[pool.a]\n[pool.b]\n[service.c]\nlisten = 1", "4:1: service.c has no 'pool': there are a, b"),
        (
            "[pool.a]\n[pool.b]\n[service.c]\npool = 'a'\nlisten = 1",
            "2:7: pool.b: no service takes destinations from it",
        ),
        (
            "[pool.a]\n[service.b]\nlisten = 1\n[service.c]\nlisten = '1'",
            "5:10: service.c.listen: service.b listens at *:1",
        ),
        (
            "[pool.a]\n[service.b]\nlisten = 1\ninterface = 'a'\n[service.c]\nlisten = 1",
            "6:10: service.c.listen: service.b listens at *:1",
        ),
        (
            "[pool.a]\n[service.b]\nlisten = 1\ninterface = 'a/b'",
            "4:13: service.b.interface: 'a/b': not the name of a network interface",
        ),
        ("[pool.a]\n[service.b]\nlisten = 1\nbacklog = 0", "4:11: service.b.backlog: '0': 0 is not in 1..=1000000"),
        ("[pool.a]\n[service.b]\nlisten = []", "3:10: service.b.listen: the list is empty"),
        (
            "[pool.a]\n[service.b]\nlisten = [1, [2]]",
            "3:10: service.b.listen: this is a list; it takes a port, a string \"HOST:PORT\", or a list of them",
        ),
        ("[pool.a]\n[service.b]\nlisten = [1, '1-5']", "3:10: service.b.listen: '1,1-5': *:1 is given twice"),
        (
            "[pool.a]\n[service.b]\nlisten = ['1-5', 9]\n[service.c]\nlisten = [7, '10.0.0.1:3-4']",
            "5:10: service.c.listen: 10.0.0.1:3: service.b listens at *:3",
        ),
        (
            "[pool.a]\ndestinations = ['db1:1', 'db2']\n[service.b]\nlisten = [1, 2]",
            "2:26: pool.a.destinations: 'db2' lacks a port, and the pool's services listen at several: write 'db2:PORT'",
        ),
        ("[pool.a]\n[service.b]\nlisten = 1\navoid = 'c'", "4:9: service.b.avoid: there is no service 'c'"),
        ("[pool.a]\n[service.b]\nlisten = 1\navoid = 'b'", "4:9: service.b.avoid: a service cannot avoid itself"),
        (
            "[pool.a]\n[service.b]\nlisten = 1\navoid = 'c'\n[service.c]\nlisten = 2",
            "4:9: service.b.avoid: 'c' has no single destination: its policy is not 'single'",
        ),
        (
            "[pool.a]\n[service.b]\nlisten = 1\npolicy = 'single'\navoid = 'c'\n\
             [service.c]\nlisten = 2\npolicy = 'single'\navoid = 'b'",
            "5:9: service.b.avoid: 'c' avoids 'b' in turn",
        ),
        (
            "[pool.a]\n[pool.d]\n[service.b]\nlisten = 1\npool = 'a'\navoid = 'c'\n\
             [service.c]\nlisten = 2\npool = 'd'\npolicy = 'single'",
            "6:9: service.b.avoid: 'c' has another pool, 'd'",
        ),
        (
            "[pool.a]\ndestinations = ['db1:1', 'db2']\n[service.b]\nlisten = 1\n[service.c]\nlisten = 2",
            "2:26: pool.a.destinations: 'db2' lacks a port, and the pool's services listen at several: write 'db2:PORT'",
        ),
    ] {
        assert_eq!(complaints(text).first().map(String::as_str), Some(expected), "{text}");
    }
    for text in ["[pool.a", "a = ", "[pool.a]\nrise = 1\nrise = 2", "\u{0}"] {
        assert!(!complaints(text).is_empty(), "{text}");
    }
}

#[test]
fn a_file_that_is_nothing_but_faults_is_told_of_in_a_hundred_lines() {
    let keys: String = (0..20_000).map(|number| format!("nothing{number} = 1\n")).collect();
    let found = complaints(&format!("{SMALLEST}{keys}"));
    assert_eq!(found.len(), 100);
    assert!(found[0].starts_with("4:1: service.main.nothing0: no such key"), "{}", found[0]);
    assert!(found[99].ends_with("(and 19900 more faults)"), "{}", found[99]);
    let long = "x".repeat(500_000);
    assert_eq!(complaints(&format!("{SMALLEST}{long} = 1")).len(), 1);
}

#[test]
fn what_is_wrong_with_the_whole_is_said_in_the_words_of_the_file() {
    let file = "[pool.main]\ninterval = 1\ntimeout = 5\n[service.main]\nlisten = 1\n";
    let contents = read(file).expect("each by itself is right");
    let contents = contents.parts().next().expect("a service");
    let complaint = contents.locate(file, "--timeout needs checks of the destinations: give --watchdog as well");
    let expected = "3:11: pool.main.timeout needs checks of the destinations: give watchdog as well";
    assert_eq!(complaint.map(|it| it.to_string()).as_deref(), Some(expected));
    assert_eq!(contents.locate(file, "--log stderr: in the background there is none; leave out --daemon"), None);
}

#[test]
fn all_that_does_not_fit_together_is_said_at_once_with_its_place() {
    let text = "[process]\ncontrol = '127.0.0.1:8011'\nhttp = 8011\n[pool.p]\nmax-queue = 5\nmin-connections = 3\n\
                [service.s]\nlisten = [8010, 8011]\npolicy = 'first'\nover-limit = 'reset'\nsocket-mode = '0600'\n\
                proxy-v2-options = ['crc32c']\n[service.t]\nlisten = 8012\npolicy = 'first'\n";
    let Err(Refused::WrongFile(told)) = Config::from_text(text, &[]) else { panic!("it is wrong") };
    let told: Vec<&str> = told.iter().map(|line| line.split(": ").next().expect("a place")).collect();
    let told: Vec<&str> = told.iter().map(|place| place.trim()).collect();
    assert_eq!(told, ["2:11", "3:8", "3:8", "5:13", "6:19", "6:19", "9:10", "10:14", "11:15", "12:20", "15:10"]);
}

#[test]
fn lists_may_be_empty_but_for_that_of_who_may_connect() {
    let none = of_file("[pool.main]\ndestinations = []\nbackups = []\n[service.main]\nlisten = 3306\ndeny = []\n");
    assert_eq!(none.pools[0].destinations.len(), 0);
    let allow = complaints(&format!("{SMALLEST}allow = []\nretries = 18446744073709551615\n"));
    let told = "the list is empty, and would allow nobody: leave it out to allow everybody";
    assert_eq!(
        allow,
        [format!("4:9: service.main.allow: {told}"), "5:11: service.main.retries: this number is too large".to_owned()]
    );
}

#[test]
fn a_printed_configuration_says_the_same_when_it_is_read() {
    for words in [
        &["3306"][..],
        &["8010", "10.0.0.1:3306", "10.0.0.2:3306:2 db3:1:0"],
        &["-d", "-c", "8011", "-t", "2", "--user", "a:b", "--log", "/var/log/a \"b\" c\\d", "[::1]:3306", "a:1"],
        &["-w", "http:9200/;spare=503", "-i", "0.25", "--timeout", "3", "-L", "4", "-x", "2", "--keep-sessions", "1"],
        &["-w", "exec:check 'a b' \"c\"", "--slow-start", "20", "--shutdown-sessions", "always", "--fall", "9", "1"],
        &["-S", "-K", "-n", "-l", "-a", "-Y", "--greeting", "mysql", "--connect-from", "127.0.0.1,::1", "1"],
        &["3306,10.0.0.100:3307,[::1]:3308-3310", "10.0.0.1:3306"],
        &["--transparent", "--connect-from", "client", "1"],
        &["--backlog", "100", "--interface", "eth0.7", "--defer-accept", "1"],
        &["--send-proxy", "1", "1"],
        &["--send-proxy", "2", "--accept-proxy", "10.0.0.0/8,fd00::/8,::1", "1"],
        &["-b", "-T", "--resolve", "0", "--resolve-all", "--prefer", "ipv6", "--strict-names", "-v", "1"],
        &["--keepalive-time", "5", "--keepalive-interval", "6", "--keepalive-count", "7", "--retries", "0", "1"],
    ] {
        let text = printed(words);
        let (read, given) = (of_file(&text), of_command_line(words));
        assert_eq!(format!("{read:?}"), format!("{given:?}"), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[(pool|service|process)(\\.[a-c])?\\]|[a-z-]{1,9} ?= ?|[0-9.\"'\\[\\]{},\\n]|\\PC){0,40}") {
        let _ = complaints(&text);
    }

    #[test]
    fn no_value_makes_it_panic_or_says_anything_but_its_own(value in "\\PC{0,30}", place in 0..KEYS.len()) {
        let key = &KEYS[place];
        let section = match key.section {
            Section::Process => "process",
            Section::Pool => "pool.main",
            Section::Service => "service.main",
        };
        let quoted = toml::Value::String(value);
        for value in [quoted.to_string(), toml::Value::Array(vec![quoted.clone()]).to_string()] {
            let file = format!("[{section}]\n{} = {value}\n{}", key.name, SMALLEST.replace(&format!("[{section}]\n"), ""));
            if let Ok(contents) = read(&file) {
                let said = [&contents.process, &contents.pools[0].1, &contents.services[0].1];
                let options: Vec<&String> = said.iter().flat_map(|said| &said.options).collect();
                prop_assert!(options.len() <= 1, "{options:?}");
            }
        }
    }
}
