use std::time::{Instant, SystemTime};

use proptest::prelude::*;

use super::rate::{LeftOut, Rates};
use super::*;

fn ended(service: &str, rate: u32) -> Ended {
    Ended {
        style: Style::Text,
        rate,
        at: SystemTime::UNIX_EPOCH,
        service: service.into(),
        id: SessionId { process: 4, worker: 1, slot: 2, generation: 3 },
        client: "10.0.0.9:40000".parse::<SocketAddr>().expect("an address").into(),
        local: Some("10.0.0.1:50000".parse().expect("an address")),
        destination: None,
        attempts: 2,
        queue: Took::NEVER,
        connect: Duration::from_micros(1500).into(),
        first_byte: Took::NEVER,
        duration: Duration::from_secs(90).into(),
        bytes_in: 5,
        bytes_out: 7,
        cause: Cause::ServerReset,
    }
}

fn line(style: Style, service: &str, stamped: bool) -> String {
    format::ended(String::new(), &Ended { style, ..ended(service, 1) }, stamped)
}

#[test]
fn a_line_says_all_that_is_known_in_an_order_that_stays() {
    let id = "4.1-2-3";
    let fields = format!(
        "connection service=main id={id} client=10.0.0.9:40000 local=10.0.0.1:50000 destination=- attempts=2 queue=- \
         connect=0.001500 first_byte=- duration=90.000000 bytes_in=5 bytes_out=7 cause=server-reset\n"
    );
    assert_eq!(line(Style::Text, "main", false), fields);
    assert_eq!(line(Style::Text, "main", true), format!("1970-01-01T00:00:00.000Z {fields}"));
    let json = format!(
        "{{\"time\":\"1970-01-01T00:00:00.000Z\",\"service\":\"main\",\"id\":\"{id}\",\"client\":\"10.0.0.9:40000\",\
         \"local\":\"10.0.0.1:50000\",\"destination\":null,\"attempts\":2,\"queue\":null,\"connect\":0.001500,\
         \"first_byte\":null,\"duration\":90.000000,\"bytes_in\":5,\"bytes_out\":7,\"cause\":\"server-reset\"}}\n"
    );
    assert_eq!(line(Style::Json, "main", true), json);
}

#[test]
fn a_service_has_so_many_lines_a_second_and_the_rest_are_counted() {
    let (mut rates, begun) = (Rates::default(), Instant::now());
    let at = |service, second| Ended { at: SystemTime::UNIX_EPOCH + Duration::from_secs(second), ..ended(service, 2) };
    let written = (0..5).filter(|_| rates.permit(&at("a", 7))).count();
    assert!(rates.permit(&at("b", 7)), "another service has its own");
    assert!(rates.permit(&at("a", 8)), "as has another second, also if both are written at once");
    assert_eq!(written, 2);
    assert!(rates.next().is_some_and(|next| next >= begun + Duration::from_secs(1)));
    assert_eq!(rates.over(begun, false), []);
    let of_a = LeftOut { service: "a".into(), style: Style::Text, count: 3, most: 2 };
    assert_eq!((rates.over(begun, true), rates.next()), (vec![of_a], None));
    rates.tidy(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    assert!(rates.permit(&at("a", 8)) && !rates.permit(&at("a", 8)), "what was said is not forgotten");
    rates.tidy(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
    assert_eq!(rates.over(Instant::now(), true).len(), 1, "nor what is to be said");
}

proptest! {
    #[test]
    fn no_name_can_break_a_line(service in any::<String>()) {
        let json: serde_json::Value = serde_json::from_str(&line(Style::Json, &service, true)).expect("an object");
        prop_assert_eq!(json["service"].as_str(), Some(&*service));
        let text = line(Style::Text, &service, true);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(text.contains(" id="));
    }
}
