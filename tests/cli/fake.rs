//! A place with daemons in it that answer from a table, in this very process.

use control::answer::Answer;
use control::error::ControlError;
use control::paths::Paths;
use control::request::{ApplianceRequest, SplitterRequest};
use control::server::{ControlListener, ProgressSink, serve};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// A temporary installation; daemons in it end with it.
pub struct Place {
    _temp: tempfile::TempDir,
    pub paths: Paths,
    daemons: Vec<(Arc<Notify>, JoinHandle<()>)>,
}

impl Place {
    /// One without daemons.
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let paths = Paths::new(temp.path().join("state"), temp.path().join("run"), temp.path().join("undisk.toml"));
        paths.prepare().unwrap();
        Self { _temp: temp, paths, daemons: Vec::new() }
    }

    /// With a splitter that answers so.
    pub fn splitter(mut self, answer: fn(SplitterRequest) -> Result<Answer, ControlError>) -> Self {
        let socket = self.paths.splitter_socket(None);
        self.daemons.push(start(&socket, answer));
        self
    }

    /// With an appliance that answers so.
    pub fn appliance(mut self, answer: fn(ApplianceRequest) -> Result<Answer, ControlError>) -> Self {
        let socket = self.paths.appliance_socket();
        self.daemons.push(start(&socket, answer));
        self
    }

    /// The program, told to work here, and nothing else of the environment.
    pub fn undisk(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undisk"));
        self.dress(&mut command);
        command
    }

    /// The environment of this place, for any program.
    pub fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .env("UNDISK_STATE", self.paths.state())
            .env("UNDISK_RUN", self.paths.run())
            .env("UNDISK_CONFIG", self.paths.config())
            .stdin(std::process::Stdio::null());
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.undisk().args(words).output().unwrap()
    }
}

/// Copies a program. By another process: a descriptor of ours that is open for writing may be inherited by a child
/// that another test forks at this very moment, and then the copy cannot be executed ("text file busy").
pub fn copy_program(from: &Path, to: &Path) {
    let done = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Writes a shell script that can be executed; by another process, as above.
pub fn write_script(path: &Path, text: &str) {
    let write = "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let done = Command::new("sh").args(["-c", write, "sh", text]).arg(path).status().unwrap();
    assert!(done.success());
}

impl Drop for Place {
    fn drop(&mut self) {
        for (stop, thread) in self.daemons.drain(..) {
            stop.notify_one();
            thread.join().unwrap();
        }
    }
}

fn start<R: DeserializeOwned + Send + 'static>(
    socket: &Path,
    answer: fn(R) -> Result<Answer, ControlError>,
) -> (Arc<Notify>, JoinHandle<()>) {
    let socket = socket.to_owned();
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let (ready, is_ready) = channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = ControlListener::bind(&socket).unwrap();
            ready.send(()).unwrap();
            let handler = move |request: R, _progress: ProgressSink| async move { answer(request) };
            serve(listener, handler, async move { stopped.notified().await }).await;
        });
    });
    is_ready.recv().unwrap();
    (stop, thread)
}
