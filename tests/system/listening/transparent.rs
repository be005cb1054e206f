//! Addresses that this machine does not have: those of clients, from which destinations are connected to, and those of others,
//! at which clients are accepted.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread;

use super::{reload, write};
use crate::harness::neighbour::{Neighbour, ip};
use crate::harness::net::alone_in_a_network;
use crate::harness::{Server, connect_to, free_port, read_line};
use crate::services::Site;

/// Where the destination is, beyond a cable of its own.
const DESTINATION: &str = "10.9.2.2:3306";
/// An address of nobody's.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// A client at 10.9.1.2 on the one side of this machine, and a destination on the other side, which says to each of its
/// clients where that comes from. Its answers go through this machine, and so to glbd, as do packets to foreign addresses.
struct Stage {
    site: Site,
    client: Neighbour,
    _destination: Neighbour,
    port: u16,
}

fn staged(test: impl FnOnce(&Stage) + Send + 'static) {
    alone_in_a_network(|| {
        let (client, destination, port) = (Neighbour::new(), Neighbour::new(), free_port());
        client.plug("one", "10.9.1.1/24", "10.9.1.2/24");
        destination.plug("two", "10.9.2.1/24", "10.9.2.2/24");
        client.inside(|| ip("route add default via 10.9.1.1"));
        destination.inside(|| {
            ip("route add default via 10.9.2.1");
            let listener = TcpListener::bind(DESTINATION).expect("its own address");
            thread::spawn(move || listener.incoming().flatten().for_each(|client| say_where_from(&client)));
        });
        ip("rule add iif two ipproto tcp sport 3306 lookup 100");
        ip(&format!("rule add iif one ipproto tcp dport {port} lookup 100"));
        ip("route add local default dev lo table 100");
        test(&Stage { site: Site::new(), client, _destination: destination, port });
    });
}

fn say_where_from(mut client: &TcpStream) {
    use std::io::Write;
    let from = client.peer_addr().expect("an address").ip();
    writeln!(client, "{from}").expect("somebody listens");
}

impl Stage {
    /// Writes the file, for a daemon of this user.
    fn write(&self, user: &str, lines: &str) {
        write(&self.site, &Server::echo(), &[("s", lines)]);
        let text = fs::read_to_string(&self.site.file).expect("the file");
        let pool = text.find("destinations = ").expect("a pool");
        let end = text[pool..].find('\n').expect("a line") + pool;
        let text = format!("{}destinations = [\"{DESTINATION}\"]{}", &text[..pool], &text[end..]);
        let text = text.replace("\"root\"", &format!("\"{user}\""));
        fs::write(&self.site.file, text.replace("log = ", "#log = ")).expect("a file");
        for path in [self.site.daemon.directory(), Path::new(&self.site.file)] {
            chown(path, Some(65_534), None).expect("root runs this");
        }
    }

    /// Where the destination sees the client at, which connects to this address.
    fn seen_at(&self, address: impl Into<SocketAddr>) -> Option<String> {
        let address = address.into();
        self.client.inside(move || read_line(&connect_to(address).ok()?).ok()).map(|line| line.trim().to_owned())
    }

    fn own(&self) -> SocketAddr {
        ([10, 9, 1, 1], self.port).into()
    }
}

/// Also when glbd has become another user, and after an upgrade, whose process is started by that.
#[test]
fn destinations_are_connected_to_from_the_clients_own_address() {
    staged(|stage| {
        let (of_client, of_glbd) = (Some("10.9.1.2".to_owned()), Some("10.9.2.1".to_owned()));
        let listen = format!("listen = {}\n", stage.port);
        let as_client = format!("{listen}connect-from = [\"client\"]");
        stage.write("nobody", &as_client);
        stage.site.start();
        assert_eq!(stage.seen_at(stage.own()), of_client);
        stage.site.daemon.upgrade();
        assert_eq!(stage.seen_at(stage.own()), of_client);
        let status = fs::read_to_string(stage.site.daemon.proc("status")).expect("/proc");
        assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
        assert!(status.contains("\nCapEff:\t0000000000002000\n"), "CAP_NET_RAW and nothing else: {status}");
        // One at the loopback interface cannot be spoken for elsewhere.
        let local = connect_to((Ipv4Addr::LOCALHOST, stage.port).into()).expect("it listens");
        assert_eq!(read_line(&local).ok().as_deref().map(str::trim), of_glbd.as_deref());
        stage.write("nobody", &listen);
        assert!(reload(&stage.site).ends_with("Ok\n"));
        assert_eq!(stage.seen_at(stage.own()), of_glbd);
        stage.write("nobody", &as_client);
        assert!(reload(&stage.site).ends_with("Ok\n"));
        assert_eq!(stage.seen_at(stage.own()), of_client);
    });
}

#[test]
fn clients_are_accepted_at_addresses_that_this_machine_does_not_have() {
    staged(|stage| {
        let foreign = format!("listen = [\"{FOREIGN}:{}\", \"10.9.1.1:{}\"]\n", stage.port, stage.port);
        let transparent = format!("{foreign}transparent = true");
        let seen = Some("10.9.2.1".to_owned());
        stage.write("nobody", &format!("listen = {}\ntransparent = true", stage.port));
        stage.site.start();
        for address in [(FOREIGN, stage.port).into(), stage.own()] {
            assert_eq!(stage.seen_at(address), seen, "{address}");
        }
        stage.write("nobody", &transparent);
        assert!(reload(&stage.site).ends_with("Ok\n"));
        stage.site.daemon.upgrade();
        for address in [(FOREIGN, stage.port).into(), stage.own()] {
            assert_eq!(stage.seen_at(address), seen, "{address}");
        }
        let another = transparent.replace("203.0.113.7", "203.0.113.8").replace("transparent = true", "");
        stage.write("nobody", &another);
        let told = format!(
            "Error: cannot listen on 203.0.113.8:{}: Cannot assign requested address (os error 99)\n",
            stage.port
        );
        assert_eq!(reload(&stage.site), told);
        assert_eq!(stage.seen_at((FOREIGN, stage.port)), seen);
    });
}

#[test]
fn without_the_right_to_it_there_is_a_clear_error() {
    let takes = "Operation not permitted (os error 1); it takes the capability CAP_NET_RAW, which glbd keeps if it asks for \
                 that at its start";
    staged(move |stage| {
        let listen = format!("listen = {}\n", stage.port);
        stage.write("nobody", &listen);
        stage.site.start();
        for lines in ["transparent = true", "connect-from = [\"client\"]"] {
            stage.write("nobody", &format!("{listen}{lines}"));
            let told = format!("Error: service s cannot use addresses of other machines: {takes}\n");
            assert_eq!(reload(&stage.site), told);
        }
        assert!(stage.seen_at(stage.own()).is_some());
    });
}
