//! `glbctl top`: a view of daemons as they work, that can be steered by key.

mod app;
mod daemon;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::env;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};

use super::client::{self, Client, Failure};
use super::model::{Filter, Listed, Status, lines, value};
use app::{App, Effect};
use daemon::Look;
use screen::{Screen, Signals};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for a change: the move of a writer takes its grace.
const PATIENCE_FOR_CHANGES: Duration = Duration::from_secs(30);
/// How often keys and answers are looked for, and what is shown of times is drawn anew.
const TICK: Duration = Duration::from_millis(50);
const REDRAW: Duration = Duration::from_secs(1);
/// Most daemons at a time.
const MOST: usize = 32;

/// What comes from the threads that speak with daemons.
enum News {
    Saw {
        daemon: usize,
        look: Box<Result<Look, String>>,
    },
    /// What became of a command, and whether that is bad.
    Told {
        text: String,
        is_bad: bool,
    },
}

/// Shows these daemons until the user has seen enough.
///
/// # Errors
/// There is no terminal.
pub fn run(clients: Vec<Client>, filter: Filter, interval: Duration) -> Result<(), Failure> {
    if clients.len() > MOST {
        return Err(Failure::Usage(format!("top takes at most {MOST} daemons")));
    }
    let failed = |error: std::io::Error| Failure::Usage(error.to_string());
    let signals = Signals::catch().map_err(failed)?;
    let mut screen = Screen::open().map_err(failed)?;
    let (sender, news) = mpsc::channel();
    for (daemon, client) in clients.iter().enumerate() {
        let (client, sender) = (client.clone(), sender.clone());
        thread::spawn(move || watch(&client, daemon, interval, &sender));
    }
    let mut app = App::new(clients.iter().map(Client::name).collect(), filter);
    show(&mut app, &mut screen, &signals, &news, |daemon, command| {
        let (client, sender) = (clients[daemon].clone(), sender.clone());
        thread::spawn(move || sender.send(tell(&client, &command)));
    })
    .map_err(|error| Failure::Unreachable(format!("the terminal: {error}")))
}

fn show(
    app: &mut App,
    screen: &mut Screen,
    signals: &Signals,
    news: &Receiver<News>,
    send: impl Fn(usize, String),
) -> std::io::Result<()> {
    let mut drawn: Option<Instant> = None;
    while !signals.quit() {
        for news in news.try_iter() {
            match news {
                News::Saw { daemon, look } => app.saw(daemon, *look, Instant::now()),
                News::Told { text, is_bad } => app.was_told(text, is_bad),
            }
            drawn = None;
        }
        if signals.stop() {
            screen.suspend()?;
            drawn = None;
        }
        if signals.resumed() {
            screen.resume()?;
            drawn = None;
        }
        if drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            screen.draw(|frame| view::draw(frame, app))?;
            drawn = Some(Instant::now());
            // For a test of what becomes of the terminal.
            assert!(env::var_os("GLBCTL_PANIC").is_none(), "GLBCTL_PANIC asks for it");
        }
        if !event::poll(TICK)? {
            continue;
        }
        drawn = None;
        let Event::Key(key) = event::read()? else { continue };
        match app.on_key(key) {
            Effect::Nothing => {}
            Effect::Quit => break,
            Effect::Suspend => screen.suspend()?,
            Effect::Redraw => screen.clear()?,
            Effect::Send { daemon, command } => {
                app.was_told(format!("{command}..."), false);
                send(daemon, command);
            }
        }
    }
    Ok(())
}

/// Looks at a daemon again and again, until nobody takes what is seen.
fn watch(client: &Client, daemon: usize, interval: Duration, news: &Sender<News>) {
    loop {
        let begun = Instant::now();
        // The daemon's name stands above what is said of it.
        let name = format!("{}: ", client.name());
        let look = look(client).map_err(|failure| failure.to_string().replacen(&name, "", 1));
        if news.send(News::Saw { daemon, look: Box::new(look) }).is_err() {
            return;
        }
        thread::sleep(interval.saturating_sub(begun.elapsed()));
    }
}

fn look(client: &Client) -> Result<Look, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let answers =
        client.ask_all(&["getinfo json", "getevents limit=100 json", "getclients limit=1000 json"], deadline)?;
    let [status, events, clients] = answers.as_slice() else { return Err(Failure::Refused(Vec::new())) };
    let clients = match clients.starts_with("Error: ") {
        true => Err(client::reasons(clients).join("; ")),
        false => lines(&Listed::parse(clients).found).map_err(|failure| failure.to_string()),
    };
    let status = match status.starts_with("Error: ") {
        true => return Err(Failure::Refused(client::reasons(status))),
        false => value::<Status>(status)?,
    };
    Ok(Look { at: Instant::now(), status, events: lines(events).unwrap_or_default(), clients })
}

fn tell(client: &Client, command: &str) -> News {
    match client.ask(command, Instant::now() + PATIENCE_FOR_CHANGES) {
        Ok(answer) => {
            let mut said = client::reasons(&answer);
            said.retain(|line| line != "Ok");
            let is_bad = said.iter().any(|line| line.starts_with(client::MISSING));
            let said = if said.is_empty() { "done".to_owned() } else { said.join("; ") };
            News::Told { text: format!("{command}: {said}"), is_bad }
        }
        Err(failure) => News::Told { text: format!("{command}: {failure}"), is_bad: true },
    }
}
