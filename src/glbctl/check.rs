//! `glbctl check`: has glbd itself check a configuration file.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Failure;
use super::text::harmless;

/// The directories of daemons, which are in few users' PATH.
const USUAL: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];
/// Most that is read of what it says.
const MOST: u64 = 1 << 20;

/// What glbd says of a file, a line for each.
///
/// # Errors
/// It finds something wrong, or there is no glbd, or it takes too long.
pub fn check(file: &Path, deadline: Instant) -> Result<Vec<String>, Failure> {
    let program = find().ok_or_else(|| Failure::Unreachable("there is no glbd beside glbctl, nor in PATH".into()))?;
    let mut option = OsString::from("--config=");
    option.push(file);
    let mut command = Command::new(&program);
    command.arg("--check").arg(option).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error| Failure::Unreachable(format!("{}: {error}", program.display()));
    let mut child = command.spawn().map_err(failed)?;
    let output = [read(child.stdout.take()), read(child.stderr.take())];
    let status = wait(&mut child, deadline).map_err(failed)?;
    let lines: Vec<String> = output.into_iter().flat_map(|it| it.join().unwrap_or_default()).collect();
    match status {
        None => Err(Failure::Unreachable(format!("{} has not answered in time", program.display()))),
        Some(status) if status.success() => Ok(lines),
        Some(status) if lines.is_empty() => Err(Failure::Refused(vec![format!("{}: {status}", program.display())])),
        Some(_) => Err(Failure::Refused(lines)),
    }
}

fn find() -> Option<PathBuf> {
    let own = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let beside = own.iter().flat_map(|own| [own.join("glbd"), own.join("../sbin/glbd")]);
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|directory| directory.join("glbd")).collect::<Vec<_>>();
    let usual = USUAL.iter().map(|directory| Path::new(directory).join("glbd"));
    beside.chain(in_path).chain(usual).find(|program| program.is_file())
}

/// Reads to the end in a thread, without the program's name in front of each line.
fn read(output: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<String>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // What can be read is shown.
        let _ = output.map(|output| output.take(MOST).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        text.lines().map(|line| harmless(line.strip_prefix("glbd: ").unwrap_or(line))).collect()
    })
}

fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
