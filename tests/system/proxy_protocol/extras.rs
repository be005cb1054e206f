//! What headers of version 2 say beside the addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use super::mariadb::WHO_AM_I;
use super::programs::{Program, haproxy, nginx};
use super::{binary, read_exactly, version_2};
use crate::harness::galera::SqlClient;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Daemon, Glbd, Server, Stage, connect_to, free_port, read_line, was_reset};
use crate::services::{Site, at};

const ALL: &str = "unique-id,authority,alpn,ssl,custom,crc32c";

/// What a TLV is: its type, its length and its value.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).expect("a short value").to_be_bytes()[..], value].concat()
}

fn tlvs(all: &[(u8, &[u8])]) -> Vec<u8> {
    all.iter().flat_map(|(kind, value)| tlv(*kind, value)).collect()
}

fn far_away() -> (SocketAddr, SocketAddr) {
    ("192.0.2.7:50000".parse().expect("an address"), "198.51.100.1:3306".parse().expect("an address"))
}

/// What a proxy that terminates TLS says, and what a cloud adds.
fn received() -> [(u8, &'static [u8]); 7] {
    [
        (0x01, b"mysql"),
        (0x02, b"db.example.org"),
        (0x04, b"\0\0\0"),
        (0x05, b"from-the-front"),
        (0x20, b"\x01\0\0\0\0\x21\0\x07TLSv1.3"),
        (0x30, b"blue"),
        (0xea, b"\x01vpce-08d2bf15fac5001c9"),
    ]
}

/// What the destination gets of a header with [`received`], behind the addresses, if this is passed on.
fn passed_on(options: &str) -> Vec<u8> {
    let stage = Stage::start_with(Glbd::builder().args(["--accept-proxy=127.0.0.1", "--send-proxy=2", options]));
    let mut client = stage.glbd.connect();
    let (source, destination) = far_away();
    let header = version_2(source, destination, &tlvs(&received()));
    client.write_all(&[&header[..], b"hello\n"].concat()).expect("an open connection");
    let mut server = stage.accept();
    let header = read_header(&mut server);
    read_exactly(&server, b"hello\n");
    assert_eq!(header[..28], version_2(source, destination, &vec![0; header.len() - 28])[..28]);
    header[28..].into()
}

/// A whole header of version 2.
fn read_header(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).expect("a header");
    header.resize(16 + usize::from(u16::from_be_bytes([header[14], header[15]])), 0);
    stream.read_exact(&mut header[16..]).expect("a header");
    header
}

#[test]
fn what_a_proxy_in_front_has_said_is_passed_on_as_far_as_it_is_asked_for() {
    assert_eq!(passed_on("--nodelay"), b"");
    let [alpn, authority, _, unique_id, ssl, _, custom] = received();
    for (option, expected) in
        [("unique-id", unique_id), ("authority", authority), ("alpn", alpn), ("ssl", ssl), ("custom", custom)]
    {
        assert_eq!(passed_on(&format!("--proxy-v2-options={option}")), tlvs(&[expected]), "{option}");
    }
    let all = passed_on(&format!("--proxy-v2-options={ALL}"));
    assert_eq!(all[..3], [0x03, 0, 4]);
    assert_eq!(all[7..], tlvs(&[unique_id, alpn, authority, ssl, custom]));
}

#[test]
fn each_connection_has_a_name_of_its_own_which_the_log_says() {
    let stage = Stage::start_with(Glbd::builder().args([
        "--verbose",
        "--threads=4",
        "--send-proxy=2",
        "--proxy-v2-options=unique-id",
    ]));
    let mut names = Vec::new();
    for _ in 0..20 {
        let client = stage.glbd.connect();
        let mut server = stage.accept();
        let (source, destination) = (client.local_addr().expect("an address"), stage.glbd.address());
        let header = read_header(&mut server);
        let name = String::from_utf8(header[31..].into()).expect("text");
        assert_eq!(header, version_2(source, destination, &tlv(0x05, name.as_bytes())));
        assert!(name.len() == 32 && name.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{name}");
        stage.glbd.wait_for_log(&format!("client {source}: has the unique id {name}"));
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
}

/// A destination that refuses the client, and the next one, know the connection by the same name.
#[test]
fn a_connection_keeps_its_name_from_one_destination_to_the_next() {
    let refusal = b"\x17\0\0\0\xff\x10\x04Too many connections";
    let (told, names) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let server = || {
        let told = told.lock().expect("no panic").clone();
        Server::serving(move |mut stream| {
            let mut bytes = [0; 63];
            if stream.read_exact(&mut bytes).is_ok() {
                told.send(bytes[31..].to_vec()).ok();
                stream.write_all(refusal).ok();
            }
        })
    };
    let servers = [server(), server()];
    let glbd = Glbd::builder()
        .args(["--send-proxy=2", "--proxy-v2-options=unique-id", "--greeting=mysql"])
        .destinations(&servers)
        .start();
    let client = glbd.connect();
    read_exactly(&client, refusal);
    let names: Vec<Vec<u8>> = names.iter().take(2).collect();
    assert_eq!(names[0], names[1]);
}

/// What a web server behind glbd says of the header that it got.
fn page(address: SocketAddr, first: &[u8]) -> String {
    let mut client = connect_to(address).expect("it listens");
    client.write_all(&[first, b"GET / HTTP/1.0\r\n\r\n"].concat()).expect("an open connection");
    let mut page = String::new();
    client.read_to_string(&mut page).expect("a page");
    page.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn web_server() -> Program {
    haproxy(
        Ipv4Addr::LOCALHOST.into(),
        "frontend f\n mode http\n bind ADDRESS accept-proxy\n http-request return status 200 content-type text/plain \
         lf-string \"%[src] id=%[fc_pp_unique_id] name=%[fc_pp_authority]\"",
    )
}

#[test]
fn from_one_haproxy_to_another_the_name_and_the_id_arrive() {
    let behind = web_server();
    let options = format!("--proxy-v2-options={ALL}");
    let glbd = Glbd::builder()
        .args(["--accept-proxy=127.0.0.1", "--send-proxy=2", &options])
        .destinations([behind.address])
        .start();
    let front = haproxy(
        Ipv4Addr::LOCALHOST.into(),
        &format!(
            "listen l\n bind ADDRESS accept-proxy\n unique-id-format front-%ci-%cp\n server s {} send-proxy-v2 \
             proxy-v2-options unique-id,authority,crc32c",
            glbd.address()
        ),
    );
    let (source, destination) = far_away();
    let header = version_2(source, destination, &tlv(0x02, b"db.example.org"));
    assert_eq!(page(front.address, &header), "192.0.2.7 id=front-192.0.2.7-50000 name=db.example.org");
    assert!(!glbd.log().contains("PROXY header"), "{}", glbd.log());
}

#[test]
fn haproxy_nginx_and_mariadb_behind_it_read_the_header_with_all_that_it_may_say() {
    let options = format!("--proxy-v2-options={ALL}");
    let glbd_to = |address: SocketAddr| {
        let glbd = Glbd::builder().listen_on(Ipv6Addr::LOCALHOST).args(["--send-proxy=2", &options]);
        glbd.destinations([address]).start()
    };
    let haproxy = web_server();
    let said = page(glbd_to(haproxy.address).address(), b"");
    let id = said.strip_prefix("::1 id=").and_then(|rest| rest.strip_suffix(" name="));
    assert!(id.is_some_and(|id| id.len() == 32), "{said}");
    let nginx = nginx(
        "http { access_log off; server { listen ADDRESS proxy_protocol; location / { return 200 \
         \"$proxy_protocol_addr\"; } } }",
    );
    assert_eq!(page(glbd_to(nginx.address).address(), b""), "::1");
    let server = DatabaseServer::start(&["--proxy-protocol-networks=127.0.0.1"]);
    let host = SqlClient::connect(glbd_to(server.address()).address()).ask(WHO_AM_I).expect("an answer");
    assert!(host.starts_with("::1:"), "{host}");
}

#[test]
fn a_header_with_a_wrong_checksum_or_a_cut_value_is_refused_as_malformed() {
    let server = Server::echo();
    let (source, destination) = far_away();
    let unix = |extra: &[u8]| binary(0x21, 0x31, &[&[0; 216][..], extra].concat());
    let right = {
        // As glbd itself writes it.
        let stage = Stage::start_with(Glbd::builder().args([
            "--accept-proxy=127.0.0.1",
            "--send-proxy=2",
            "--proxy-v2-options=crc32c",
        ]));
        let mut client = stage.glbd.connect();
        client.write_all(&version_2(source, destination, &[])).expect("an open connection");
        read_header(&mut stage.accept())
    };
    let mut wrong = right.clone();
    wrong[16] ^= 1;
    for (header, words) in [
        (wrong, "its checksum is wrong"),
        (version_2(source, destination, &tlv(0x03, b"123")), "with a checksum of a wrong length"),
        (version_2(source, destination, b"\x02\0"), "cut within what follows the addresses"),
        (version_2(source, destination, b"\xe0\0\x05four"), "cut within what follows the addresses"),
        (version_2(source, destination, &tlv(0x05, &[b'x'; 129])), "with a unique id of more than 128 bytes"),
        (version_2(source, destination, &tlv(0x20, b"\x01\0\0\0\0\x21\xff\xffshort")), "cut within what"),
        (unix(b"\x05"), "cut within what follows the addresses"),
    ] {
        let glbd = Glbd::builder().arg("--accept-proxy=127.0.0.1").destinations([&server]).start();
        let mut client = glbd.connect();
        client.write_all(&header).ok();
        let outcome = client.read(&mut [0]);
        assert!(outcome.as_ref().is_err_and(was_reset), "{words}: {outcome:?}");
        glbd.wait_for_log(&format!(" reset: PROXY header malformed: {words}"));
    }
    assert_eq!(server.accepted(), 0);
    let glbd = Glbd::builder().arg("--accept-proxy=127.0.0.1").destinations([&server]).start();
    for header in [right, unix(&tlv(0x05, b"id")), version_2(source, destination, &tlvs(&received()))] {
        let mut client = glbd.connect();
        client.write_all(&[&header[..], b"hello\n"].concat()).expect("an open connection");
        assert_eq!(read_line(&client).expect("a line"), "hello");
    }
}

#[test]
fn a_reload_and_an_upgrade_have_new_connections_say_something_else() {
    let (site, port) = (Site::new(), free_port());
    let server = Server::serving(|mut stream| {
        // How many bytes the header has.
        let header = read_header(&mut stream.try_clone().expect("a descriptor"));
        stream.write_all(format!("{}\n", header.len()).as_bytes()).ok();
    });
    let write = |options: &str| site.write(&[("a", &[&server], "")], &[("s", port, options)]);
    let length = || read_line(&connect_to(at(port)).expect("glbd accepts")).expect("a line");
    write("send-proxy = 2");
    site.start();
    assert_eq!(length(), "28");
    write("send-proxy = 2\nproxy-v2-options = [\"unique-id\", \"crc32c\"]");
    assert_eq!(site.daemon.control("reload"), "service s: connections have other options\nOk\n");
    assert_eq!(length(), "70");
    site.daemon.upgrade();
    assert_eq!(length(), "70");
    write("send-proxy = 1\nproxy-v2-options = [\"unique-id\"]");
    let answer = site.daemon.control("reload");
    assert!(answer.contains("service.s.proxy-v2-options needs version 2 of the header"), "{answer}");
    assert_eq!(length(), "70");
}

#[test]
fn on_the_command_line_it_is_the_same_in_an_upgrade() {
    let server = Server::serving(|mut stream| {
        let header = read_header(&mut stream.try_clone().expect("a descriptor"));
        stream.write_all(format!("{}\n", header.len()).as_bytes()).ok();
    });
    let daemon = Daemon::started(&["--user=root", "--send-proxy=2", "--proxy-v2-options=crc32c", &server.to_string()]);
    assert_eq!(read_line(&daemon.connect()).expect("a line"), "35");
    daemon.upgrade();
    assert_eq!(read_line(&daemon.connect()).expect("a line"), "35");
}
