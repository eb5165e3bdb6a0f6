//! `journal-appliance`: journals what splitters send and presents past moments as devices.
//!
//! Owns what a process must do to itself before it may serve block devices of its own machine, and its end. Started
//! by `undisk up` or systemd; takes no argument: `UNDISK_STATE`, `UNDISK_RUN` and `UNDISK_LOG` say where and how loud.

use std::process::ExitCode;

use control::error::ControlError;
use control::paths::Paths;
use journal_appliance::operate::Appliance;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        None => {}
        Some("--version" | "-V") => {
            println!("journal-appliance {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("journal-appliance: takes no argument, not '{other}'; undisk is the command for administrators");
            return ExitCode::from(2);
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("journal-appliance: {error}");
            if let Some(hint) = &error.hint {
                eprintln!("  try: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ControlError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ControlError::failed("must run as root").hint("undisk up, as root"));
    }
    let filter = EnvFilter::try_from_env("UNDISK_LOG").unwrap_or_else(|_| EnvFilter::new("info,libublk=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    // Before there is any other thread: a mount of one of our devices in our own namespace would deadlock at exit.
    ublk_device::own_mount_namespace()
        .map_err(|e| ControlError::failed(format!("cannot leave the host's mounts: {e}")))?;
    ublk_device::lock_memory().map_err(|e| ControlError::failed(format!("cannot lock the process's memory: {e}")))?;
    ublk_device::io_flusher()
        .map_err(|e| ControlError::failed(format!("cannot mark the process as an I/O flusher: {e}")))?;
    // Whoever started us may have had a splitter in mind; there is one appliance, and it is this one.
    let paths = Paths::from_env().with_splitter(None).with_appliance(None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(control::server::CONNECTIONS_MAX + 8)
        .enable_all()
        .on_thread_start(|| {
            if let Err(e) = ublk_device::io_flusher() {
                tracing::warn!(error = %e, "a thread is not marked as an I/O flusher");
            }
        })
        .build()
        .map_err(|e| ControlError::failed(format!("cannot start the runtime: {e}")))?;
    let appliance = Appliance::start(&paths)?;
    runtime.block_on(async {
        let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        let (mut term, mut interrupt) =
            signals.map_err(|e| ControlError::failed(format!("cannot listen for signals: {e}")))?;
        appliance
            .run(async {
                tokio::select! {
                    _ = term.recv() => tracing::info!("asked to end by SIGTERM"),
                    _ = interrupt.recv() => tracing::info!("asked to end by SIGINT"),
                }
            })
            .await
    })
}
