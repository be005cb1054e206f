//! Tells whether two paths lead to one UNIX socket, whatever they are called and whether there is a file yet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most symbolic links one after the other, as in the kernel.
const MOST_LINKS: usize = 40;

/// A file or directory, by its file system and its number there.
type Number = (u64, u64);

/// Returns true if connecting at either path reaches the same socket: they name one file, also over symbolic links, or one
/// place where there may be a file later.
pub(super) fn lead_to_one_socket(one: &Path, other: &Path) -> bool {
    let file = number(one);
    one == other || (file.is_some() && file == number(other)) || is_one_place(one, other)
}

fn is_one_place(one: &Path, other: &Path) -> bool {
    let (one, other) = (behind_links(one), behind_links(other));
    let directory = |path: &Path| path.parent().and_then(number);
    one.file_name() == other.file_name() && directory(&one).is_some_and(|it| directory(&other) == Some(it))
}

/// Where the symbolic link at a path leads, if there is one.
fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map(|parent| parent.join(&target)).unwrap_or(target);
    }
    path
}

fn number(path: &Path) -> Option<Number> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn spellings_and_links_lead_to_one_socket_before_and_after_it_is_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("d")).expect("a directory");
        symlink("d", at("also_d")).expect("a link");
        symlink("also_d/s", at("link")).expect("a link");
        symlink(at("link"), at("link_to_link")).expect("a link");
        let own = at("d/s");
        let same = ["d//s", "d/./s", "also_d/../d/s", "also_d/s", "link", "link_to_link"];
        let others = ["d/t", "s", "none/s", "also_d"];
        let told = |name: &str| lead_to_one_socket(&at(name), &own) && lead_to_one_socket(&own, &at(name));
        let check = || {
            same.iter().for_each(|name| assert!(told(name), "{name}"));
            others.iter().for_each(|name| assert!(!told(name), "{name}"));
        };
        check();
        let _socket = UnixListener::bind(&own).expect("a socket");
        let _other = UnixListener::bind(at("d/t")).expect("a socket");
        check();
        fs::hard_link(&own, at("hard")).expect("a link");
        assert!(told("hard"));
    }
}
