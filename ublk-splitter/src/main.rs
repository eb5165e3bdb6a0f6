//! The splitter daemon: from nothing to served volumes, and down again.
//!
//! Owns the order of what a process does to itself before it serves a block device of its own machine; everything else
//! is in the library.

use anyhow::Context as _;
use control::paths::Paths;
use control::server::{ControlListener, ProgressSink, serve};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::Notify;
use ublk_splitter::operate::{After, answer};
use ublk_splitter::serve::Splitter;

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("ublk-splitter: it takes no arguments; undisk up starts it");
        return ExitCode::from(2);
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("UNDISK_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ublk-splitter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("only root can serve block devices");
    }
    let paths = Paths::from_env();
    paths.prepare()?;
    let _pid = control::pid_file::take(&paths.splitter_pid(paths.splitter()))?;
    // Before there is any other thread: asking the driver makes one.
    ublk_device::namespace::own_mount_namespace()?;
    ublk_device::inventory::features()?;
    if let Err(error) = ublk_device::process::io_flusher() {
        tracing::warn!(%error, "cannot mark the process as an I/O flusher: under memory pressure it may wait for itself");
    }
    if let Err(error) = ublk_device::process::lock_memory() {
        tracing::warn!(%error, "cannot lock memory: under memory pressure it may wait for itself");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the control runtime")?;
    let splitter = Splitter::open(paths.clone())?;
    runtime.block_on(operate(&splitter, &paths))
}

async fn operate(splitter: &Arc<Splitter>, paths: &Paths) -> anyhow::Result<()> {
    let listener = ControlListener::bind(&paths.splitter_socket(paths.splitter()))?;
    let exit = Arc::new(Notify::new());
    let started = {
        let splitter = Arc::clone(splitter);
        tokio::task::spawn_blocking(move || splitter.start())
    };
    let (served, ending) = (Arc::clone(splitter), Arc::clone(&exit));
    let handler = move |request, progress: ProgressSink| {
        let (splitter, exit) = (Arc::clone(&served), Arc::clone(&ending));
        async move {
            let asked = tokio::task::spawn_blocking(move || answer(&splitter, request, &progress)).await;
            let (answer, after) = asked.unwrap_or_else(|panic| {
                let error =
                    control::error::ControlError::failed(format!("the splitter failed on this request: {panic}"));
                (Err(error), After::GoOn)
            });
            if after == After::Exit {
                exit.notify_one();
            }
            answer
        }
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let ended = {
        let splitter = Arc::clone(splitter);
        async move {
            tokio::select! {
                () = exit.notified() => {}
                _ = terminate.recv() => end(splitter).await,
                _ = interrupt.recv() => end(splitter).await,
            }
        }
    };
    tokio::spawn(async move {
        match started.await {
            Ok(Ok(())) => tracing::info!("serving"),
            // A splitter that serves nothing must not look like one that is well: the supervisor says so.
            Ok(Err(error)) => {
                eprintln!("ublk-splitter: cannot serve what the catalog holds: {error}");
                std::process::exit(1);
            }
            Err(error) => {
                eprintln!("ublk-splitter: the start failed: {error}");
                std::process::exit(1);
            }
        }
    });
    serve(listener, handler, ended).await;
    splitter.farewell();
    Ok(())
}

async fn end(splitter: Arc<Splitter>) {
    let stopped = tokio::task::spawn_blocking(move || splitter.terminate()).await;
    for left in stopped.unwrap_or_default().left {
        tracing::warn!(left, "at the end");
    }
}
