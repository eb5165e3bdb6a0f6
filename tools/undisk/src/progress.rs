//! Progress on stderr, for anything that takes longer than a second.
//!
//! Owns when and how it is drawn; never touches stdout. On a terminal one line is drawn over and over and wiped at the
//! end; elsewhere, and only with `--progress`, a line a second.

use control::answer::Progress;
use control::size::Size;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Nothing is drawn before.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two drawings.
const PACE_TERMINAL: Duration = Duration::from_millis(200);
const PACE_LINES: Duration = Duration::from_secs(1);

/// Draws until it is dropped.
#[derive(Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    drawing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug)]
struct State {
    latest: Option<Progress>,
    over: bool,
}

impl Meter {
    /// Starts waiting for `what`; draws nothing at all unless stderr is a terminal or `always`.
    pub fn start(what: &str, always: bool) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State { latest: None, over: false }), over: Condvar::new() });
        let terminal = std::io::stderr().is_terminal();
        let drawing = (terminal || always).then(|| {
            let (shared, what) = (Arc::clone(&shared), what.to_owned());
            std::thread::spawn(move || draw(&shared, &what, terminal))
        });
        Self { shared, drawing }
    }

    /// How far it is.
    pub fn show(&self, progress: &Progress) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).latest = Some(progress.clone());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.over.notify_all();
        if let Some(drawing) = self.drawing.take() {
            // A thread that failed to draw harms nobody.
            let _ = drawing.join();
        }
    }
}

fn draw(shared: &Shared, what: &str, terminal: bool) {
    let began = Instant::now();
    let mut drawn = false;
    let mut pause = PATIENCE;
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let waited = shared.over.wait_timeout_while(state, pause, |state| !state.over);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.over {
            break;
        }
        let line = text(what, state.latest.as_ref(), began.elapsed());
        let _ =
            if terminal { write!(std::io::stderr(), "\r\x1b[K{line}") } else { writeln!(std::io::stderr(), "{line}") };
        drawn = true;
        pause = if terminal { PACE_TERMINAL } else { PACE_LINES };
    }
    if drawn && terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

/// The line.
fn text(what: &str, latest: Option<&Progress>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match latest {
        None => format!("{what}, {seconds} s"),
        Some(progress) if progress.total == 0 => {
            format!("{}: {}, {seconds} s", progress.what, Size(progress.done))
        }
        Some(progress) => {
            // In 128 bits: an exbibyte times a hundred is more than 64 hold.
            let percent = u128::from(progress.done.min(progress.total)) * 100 / u128::from(progress.total);
            format!("{}: {percent} % ({} of {}), {seconds} s", progress.what, Size(progress.done), Size(progress.total))
        }
    }
}
