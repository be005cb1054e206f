//! The terminal: taken over, and given back as it was however this ends.

use std::env;
use std::io::{self, IsTerminal, Stdout, stdin, stdout};
use std::os::fd::AsFd;
use std::panic;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use ratatui::style::Color;
use ratatui::{Frame, Terminal};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP};
use signal_hook::flag;
use signal_hook::low_level::raise;

/// The terminal, while it is taken over.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    coloured: bool,
}

/// What signals have asked for.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    quit: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    resumed: Arc<AtomicBool>,
}

impl Signals {
    pub fn catch() -> io::Result<Signals> {
        let signals = Signals::default();
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
            flag::register(signal, Arc::clone(&signals.quit))?;
        }
        flag::register(SIGTSTP, Arc::clone(&signals.stop))?;
        flag::register(SIGCONT, Arc::clone(&signals.resumed))?;
        Ok(signals)
    }

    pub fn quit(&self) -> bool {
        self.quit.load(Ordering::Relaxed)
    }

    /// Whether the process is to stop until it is continued.
    pub fn stop(&self) -> bool {
        self.stop.swap(false, Ordering::Relaxed)
    }

    /// Whether it was stopped and goes on: others may have used the terminal.
    pub fn resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::Relaxed)
    }
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// There is none.
    pub fn open() -> io::Result<Screen> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(io::Error::other("top needs a terminal"));
        }
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            usual(panic);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        // From here on, dropping it leaves the terminal as it was.
        let coloured = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let screen = Screen { terminal, coloured };
        enter()?;
        thread::spawn(end_with_the_terminal);
        Ok(screen)
    }

    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        let coloured = self.coloured;
        let drawn = self.terminal.draw(|frame| {
            draw(frame);
            if !coloured {
                let cells = frame.buffer_mut().content.iter_mut();
                cells.for_each(|cell| _ = cell.set_fg(Color::Reset).set_bg(Color::Reset));
            }
        });
        drawn.map(|_| ())
    }

    /// Draws everything anew, next time. (The terminal's own way to do so asks where the cursor is, and not every one
    /// answers.)
    pub fn clear(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Takes the terminal over again, after something else had it.
    pub fn resume(&mut self) -> io::Result<()> {
        enter()?;
        self.clear()
    }

    /// Gives the terminal back, and stops until somebody has this process go on.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        raise(SIGSTOP)?;
        self.resume()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Ends the process once its terminal is gone. A signal says so only to those whose session has it, and the library that
/// reads keys goes on to read its end for ever.
fn end_with_the_terminal() {
    let terminal = stdin();
    let mut watched = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
    while poll(&mut watched, PollTimeout::NONE) == Err(Errno::EINTR) {}
    process::exit(1);
}

fn enter() -> io::Result<()> {
    // Otherwise it would take a terminal that was changed meanwhile for the one it has set.
    let _ = disable_raw_mode();
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

/// Nothing can be done about a terminal that is gone.
fn leave() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
