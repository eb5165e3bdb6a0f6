//! Where things are on this machine: the checkout, cargo's output, and the cache of everything the guest needs.
//!
//! Owns paths only; it creates nothing but the cache folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folders every verb works in. All paths are absolute, because the guest sees them at the same place.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    target: PathBuf,
}

impl Place {
    /// Finds the checkout by walking up from the current folder to the workspace's `Cargo.toml`.
    pub fn find() -> Result<Self> {
        let here = env::current_dir().context("ask for the current folder")?;
        let root = here.ancestors().find(|folder| is_workspace(folder)).map(Path::to_path_buf);
        let Some(root) = root else {
            bail!("{} is not inside a checkout of undisk; change into one and try again", here.display());
        };
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => here.join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's output folder, `$CARGO_TARGET_DIR` included.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Kernel, modules and the folders of single runs. Always below the checkout, so that several builds
    /// with target folders of their own share one kernel.
    pub fn vm_cache(&self) -> Result<PathBuf> {
        let folder = self.root.join("target/vm");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }
}

fn is_workspace(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
}
