//! The API answers what its description says.

use serde_json::Value;

use super::Web;
use crate::harness::{Server, echoes, wait_until};

/// What is wrong with a value by a schema of the description: as much of JSON Schema as that uses.
fn faults(description: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = description.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        return faults(description, schema, value, place, found);
    }
    if let Some(kinds) = schema["anyOf"].as_array() {
        let fits = |schema: &Value| {
            let mut found = Vec::new();
            faults(description, schema, value, place, &mut found);
            found.is_empty()
        };
        if !kinds.iter().any(fits) {
            found.push(format!("{place} is none of what it may be"));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !fits {
        found.push(format!("{place} is {value}, not {kinds:?}"));
    }
    if let (Some(allowed), Value::String(_)) = (schema["enum"].as_array(), value)
        && !allowed.contains(value)
    {
        found.push(format!("{place} is {value}, not one of {allowed:?}"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(description, &schema["items"], item, &format!("{place}[{number}]"), found);
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(required.filter(|name| value.get(name).is_none()).map(|name| format!("{place}.{name} is missing")));
    for (name, item) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => faults(description, schema, item, &place, found),
            (None, Value::Bool(false)) => found.push(format!("{place} is not described")),
            (None, schema @ Value::Object(_)) => faults(description, schema, item, &place, found),
            _ => {}
        }
    }
}

#[test]
fn every_answer_is_as_it_is_described() {
    let (mut server, other) = (Server::echo(), Server::echo());
    let options = ["--watchdog", "tcp", "--interval", "0.1", "--fall", "1", "--rise", "1"];
    let (glbd, web) = Web::of(&options, &[&server, &other]);
    let client = glbd.connect();
    assert!(echoes(&client));
    server.stop();
    let is_down = || web.json("/api/v1/status")["pools"][0]["destinations"][0]["verdict"] == "DOWN";
    wait_until("it is found to be down", is_down);
    wait_until("samples are taken", || {
        web.json("/api/v1/samples")["destinations"].as_array().is_some_and(|it| it.len() == 2)
    });
    let description = web.json("/api/v1/openapi.json");
    let paths = description["paths"].as_object().expect("paths");
    let mut asked = 0;
    for (path, operations) in paths.iter().filter(|(path, _)| path.starts_with("/api/v1/")) {
        let schema = &operations["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if operations.get("get").is_none() {
            continue;
        }
        let path = path.replace("{destination}", &format!("main%2F{server}"));
        let answer = web.json(&path);
        let mut found = Vec::new();
        faults(&description, schema, &answer, &path, &mut found);
        assert!(found.is_empty(), "{found:#?}");
        asked += 1;
    }
    assert!(asked >= 7, "the paths were not found");
    let history = web.json(&format!("/api/v1/history/main/{server}"));
    assert_eq!(history["verdict"], "DOWN");
}

#[test]
fn events_are_found_by_number_and_kind_and_come_as_they_happen() {
    use std::io::{BufRead, BufReader, Write};
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    let mut stream = crate::harness::connect_to(web.0).expect("it listens");
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", web.0).expect("it reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
    let first = lines.find(|line| line == ":");
    assert!(first.is_some(), "the stream begins at once");
    assert_eq!(glbd.control(&format!("weight {server}:7")), "Ok\n");
    let line = lines.find(|line| line.starts_with("data: ")).expect("an event");
    let event: Value = serde_json::from_str(line.trim_start_matches("data: ")).expect("JSON");
    assert!(event["text"].as_str().is_some_and(|it| it.contains("from weight 1 to 7")), "{event}");
    let number = event["number"].as_u64().expect("a number");
    let since = |number: u64| web.json(&format!("/api/v1/events?kind=table&since={number}"));
    assert_eq!(since(number), serde_json::json!([]));
    assert_eq!(since(number - 1), serde_json::json!([event]));
    for wrong in ["?since=soon", "?kind=none", "?more=1", "?since=1%0aquit"] {
        assert_eq!(web.get(&format!("/api/v1/events{wrong}")).status, 400, "{wrong}");
    }
    // One that comes back after a pause gets what it has missed.
    let mut stream = crate::harness::connect_to(web.0).expect("it listens");
    let last = number - 1;
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\nLast-Event-ID: {last}\r\n\r\n", web.0).expect("it reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line == format!("id: {number}")));
    // One that was away for too long is told so.
    glbd.control(&format!("weight {server}:1\nweight {server}:7\n").repeat(200));
    let mut stream = crate::harness::connect_to(web.0).expect("it listens");
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\nLast-Event-ID: {number}\r\n\r\n", web.0).expect("it reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line == "event: missed"));
    assert_eq!(lines.next().as_deref(), Some("data: {\"missed\":144}"));
}

#[test]
fn a_service_or_pool_that_there_is_not_is_refused() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    for what in ["connections", "clients"] {
        let count = |query: &str| web.json(&format!("/api/v1/{what}?{query}")).as_array().map(Vec::len);
        assert_eq!((count("service=main"), count(&format!("dest=main%2F{server}"))), (Some(1), Some(1)));
        for (query, kind) in [("service=nosuch", "service"), ("dest=nosuch%2F127.0.0.1:1", "pool")] {
            let answer = web.get(&format!("/api/v1/{what}?{query}"));
            assert_eq!(answer.status, 400, "{answer:?}");
            assert!(answer.body.contains(&format!("there is no {kind} 'nosuch'; there are main")), "{answer:?}");
        }
    }
}
