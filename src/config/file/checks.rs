//! Whether the sections of a file go together.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::said::Said;
use super::{Part, Reader};
use crate::address::{ListenAddress, parse_destination, parse_listen_addresses};
use crate::config::options::split_backup;

/// An address of a service of the file.
struct Listening<'c> {
    address: ListenAddress,
    interface: Option<&'c str>,
    service: &'c str,
}

impl Listening<'_> {
    fn overlaps(&self, other: &Listening) -> bool {
        let apart = self.interface.is_some() && other.interface.is_some() && self.interface != other.interface;
        !apart && self.address.overlaps(&other.address)
    }
}

impl Reader {
    /// Whether each service that is avoided is one with a single destination in the same pool.
    pub(super) fn check_avoided(&mut self) {
        let parts: Vec<Part> = self.contents.parts().collect();
        let is_single = |part: &Part| part.said[2].options.iter().any(|option| option == "--single");
        let avoided_by = |service: &str| parts.iter().find(|it| it.service == service)?.avoid;
        let avoids_itself = |service: &str| {
            let avoided = std::iter::successors(avoided_by(service), |it| avoided_by(it));
            avoided.take(parts.len()).any(|it| it == service)
        };
        let mut wrong = Vec::new();
        for (part, (avoided, place)) in parts.iter().filter_map(|part| Some((part, part.said[2].avoid.as_ref()?))) {
            let complaint = match parts.iter().find(|it| it.service == avoided) {
                None => format!("there is no service '{avoided}'"),
                Some(other) if other.service == part.service => "a service cannot avoid itself".to_owned(),
                Some(other) if other.pool != part.pool => format!("'{avoided}' has another pool, '{}'", other.pool),
                Some(other) if !is_single(other) => {
                    format!("'{avoided}' has no single destination: its policy is not 'single'")
                }
                Some(_) if avoids_itself(part.service) => {
                    format!("'{avoided}' avoids '{}' in turn", part.service)
                }
                Some(_) => continue,
            };
            wrong.push((place.clone(), format!("service.{}.avoid: {complaint}", part.service)));
        }
        wrong.into_iter().for_each(|(place, complaint)| self.complain(place, complaint));
    }

    /// Complains of services that listen at the same address.
    pub(super) fn check_listening(&mut self) {
        let mut seen: HashMap<u16, Vec<Listening>> = HashMap::new();
        let mut taken = Vec::new();
        for (service, said) in &self.contents.services {
            let Ok(addresses) = parse_listen_addresses(&said.listen) else { continue };
            let interface = said.options.iter().find_map(|option| option.strip_prefix("--interface="));
            let all: Vec<Listening> =
                addresses.iter().cloned().map(|address| Listening { address, interface, service }).collect();
            let in_the_way = |it: &Listening| {
                let other = seen.get(&it.address.port)?.iter().find(|other| other.overlaps(it))?;
                let of = if other.address == it.address { String::new() } else { format!("{}: ", it.address) };
                Some(format!("service.{service}.listen: {of}service.{} listens at {}", other.service, other.address))
            };
            if let Some(complaint) = all.iter().find_map(in_the_way) {
                let place = said.places.iter().find(|(option, ..)| *option == "listen");
                taken.push((place.map_or(0..0, |(.., place)| place.clone()), complaint));
            }
            all.into_iter().for_each(|it| seen.entry(it.address.port).or_default().push(it));
        }
        taken.into_iter().for_each(|(place, complaint)| self.complain(place, complaint));
    }

    /// Whether a service has what it needs.
    pub(super) fn check_service(&mut self, name: &str, said: &Said, table: &DeTable, place: &Range<usize>) {
        let pools: Vec<&str> = self.contents.pools.iter().map(|(pool, _)| pool.as_str()).collect();
        match &said.pool {
            Some((chosen, place)) if !pools.is_empty() && !pools.contains(&chosen.as_str()) => {
                self.complain(place.clone(), format!("service.{name}.pool: there is no pool '{chosen}'"));
            }
            None if pools.len() > 1 && !table.contains_key("pool") => {
                let place = table.keys().next().map_or(place.clone(), Spanned::span);
                self.complain(place, format!("service.{name} has no 'pool': there are {}", pools.join(", ")));
            }
            _ => {}
        }
        if !table.contains_key("listen") {
            let place = table.keys().next().map_or(place.clone(), Spanned::span);
            self.complain(place, format!("service.{name} has no 'listen', where clients connect"));
        }
    }

    /// Whether a pool is used, and each of its destinations is the same one to all who use it.
    pub(super) fn check_pool(&mut self, name: &str, place: &Range<usize>) {
        let parts: Vec<Part> = self.contents.parts().filter(|part| part.pool == name).collect();
        let Some(Part { said: [_, pool, _], .. }) = parts.first() else {
            // Which service uses it is not known while some are not understood.
            if self.complaints.is_empty() {
                self.complain(place.clone(), format!("pool.{name}: no service takes destinations from it"));
            }
            return;
        };
        let addresses = parts.iter().filter_map(|part| parse_listen_addresses(&part.said[2].listen).ok());
        let ports: BTreeSet<u16> = addresses.flat_map(|all| all.ports().collect::<Vec<_>>()).collect();
        let lacks_port =
            |text: &str| parse_destination(text, None).is_err() && parse_destination(text, Some(1)).is_ok();
        let backups = pool.places.iter().filter(|(option, ..)| *option == "backups").flat_map(|(_, _, place)| {
            let given = pool.options.iter().filter_map(|option| option.strip_prefix("--backups="));
            given.flat_map(|list| list.split(',')).map(|text| (split_backup(text).1.to_owned(), place.clone()))
        });
        let all = pool.destinations.iter().cloned().chain(backups);
        let lacking: Vec<_> = all.filter(|(text, _)| ports.len() > 1 && lacks_port(text)).collect();
        for (text, place) in lacking {
            let lacks = format!("lacks a port, and the pool's services listen at several: write '{text}:PORT'");
            self.complain(place, format!("pool.{name}.destinations: '{text}' {lacks}"));
        }
    }
}
