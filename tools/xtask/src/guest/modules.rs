//! Which kernel modules the guest loads at boot, and in what order.
//!
//! Pure: works on the text of depmod's `modules.dep` and `modules.builtin`; unpacking is `initramfs`'s work.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

/// A module to load at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Name as in `lsmod`, with underscores.
    pub name: &'static str,
    /// Parameters handed to `insmod`, or nothing.
    pub parameters: &'static str,
    /// Whether a kernel without it is of no use to us.
    pub need: Need,
}

/// Whether the guest can do without a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The boot is refused without it.
    Must,
    /// Loaded when the kernel has it.
    May,
}

const fn must(name: &'static str) -> Wanted {
    Wanted { name, parameters: "", need: Need::Must }
}

const fn may(name: &'static str) -> Wanted {
    Wanted { name, parameters: "", need: Need::May }
}

/// What every guest loads, in this order (dependencies go first by themselves). Anything else is a `modprobe` away.
pub const AT_BOOT: &[Wanted] = &[
    must("virtio_pci"),
    must("virtio_blk"),
    must("virtio_console"),
    may("virtio_rng"),
    must("9pnet_virtio"),
    must("9p"),
    must("overlay"),
    // ext4 and xfs ask for crc32c by name only when they mount; nobody would load it for them.
    may("crc32c_generic"),
    may("libcrc32c"),
    must("ext4"),
    must("xfs"),
    Wanted { name: "loop", parameters: "max_loop=16", need: Need::Must },
    Wanted { name: "brd", parameters: "rd_nr=2 rd_size=1048576", need: Need::May },
    must("dm_mod"),
    may("dm_delay"),
    may("dm_flakey"),
    may("dm_log_writes"),
    may("dm_snapshot"),
    may("dm_thin_pool"),
    must("ublk_drv"),
];

/// One step of the boot: a module's path below `lib/modules/RELEASE`, as `modules.dep` spells it, and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// For example `kernel/fs/ext4/ext4.ko.xz`.
    pub path: String,
    /// Handed to `insmod` as they are.
    pub parameters: String,
}

/// Orders `wanted` so that every module comes after all it depends on, each once. Modules built into the kernel are
/// left out. Fails when a module that must be there is in neither list, or when the dependencies go round in a circle.
pub fn load_order(modules_dep: &str, modules_builtin: &str, wanted: &[Wanted]) -> Result<Vec<Load>> {
    let tree = Tree::parse(modules_dep);
    let builtin: BTreeSet<String> = modules_builtin.lines().map(|line| module_name(line.trim())).collect();
    let mut order = Order { tree: &tree, done: BTreeSet::new(), open: BTreeSet::new(), loads: Vec::new() };
    for module in wanted {
        let Some(path) = tree.by_name.get(module.name) else {
            if module.need == Need::Must && !builtin.contains(module.name) {
                bail!("this kernel has no module {}", module.name);
            }
            continue;
        };
        order.visit(path)?;
        if let Some(load) = order.loads.iter_mut().find(|load| load.path == *path) {
            module.parameters.clone_into(&mut load.parameters);
        }
    }
    Ok(order.loads)
}

/// `kernel/drivers/md/dm-mod.ko.xz` is the module `dm_mod`.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    stem.replace('-', "_")
}

struct Tree<'a> {
    dependencies: BTreeMap<&'a str, Vec<&'a str>>,
    by_name: BTreeMap<String, &'a str>,
}

impl<'a> Tree<'a> {
    fn parse(modules_dep: &'a str) -> Self {
        let mut tree = Self { dependencies: BTreeMap::new(), by_name: BTreeMap::new() };
        for line in modules_dep.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            tree.by_name.insert(module_name(path), path);
            tree.dependencies.insert(path, needs.split_whitespace().collect());
        }
        tree
    }
}

struct Order<'t, 'a> {
    tree: &'t Tree<'a>,
    done: BTreeSet<&'a str>,
    open: BTreeSet<&'a str>,
    loads: Vec<Load>,
}

impl<'a> Order<'_, 'a> {
    fn visit(&mut self, path: &'a str) -> Result<()> {
        if self.done.contains(path) {
            return Ok(());
        }
        if !self.open.insert(path) {
            bail!("the modules' dependencies go round in a circle at {path}");
        }
        let needs = self.tree.dependencies.get(path).cloned().unwrap_or_default();
        for need in needs {
            self.visit(need)?;
        }
        self.open.remove(path);
        self.done.insert(path);
        self.loads.push(Load { path: path.to_owned(), parameters: String::new() });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
