//! Other files in the place of the system's, for one process.

use std::path::Path;

/// A command that runs the one appended to it where each `file` lies over the system's file or directory `over`.
pub fn with_mounted(files: &[(&Path, &str)]) -> Vec<String> {
    assert!(nix::unistd::geteuid().is_root(), "only root may mount");
    let mount = |(file, over): &(&Path, &str)| format!("mount --bind '{}' '{over}' && ", file.display());
    let script: String = files.iter().map(mount).chain(["exec \"$0\" \"$@\"".to_owned()]).collect();
    ["unshare", "--mount", "--", "sh", "-c", &script].map(str::to_owned).into()
}
