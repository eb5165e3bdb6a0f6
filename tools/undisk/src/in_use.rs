//! Whether devices are in use, as a refusal.

use control::device_use::{DeviceUse, describe, uses_of};
use control::error::ControlError;
use std::path::Path;

/// All uses of these devices.
pub fn uses<'a>(devices: impl IntoIterator<Item = &'a Path>) -> Result<Vec<DeviceUse>, ControlError> {
    let mut all = Vec::new();
    for device in devices {
        let found = uses_of(device)
            .map_err(|e| ControlError::failed(format!("cannot find out who uses {}: {e}", device.display())))?;
        all.extend(found);
    }
    Ok(all)
}

/// Refuses `deed` while any of these devices is in use.
pub fn refuse<'a>(deed: &str, devices: impl IntoIterator<Item = &'a Path>) -> Result<(), ControlError> {
    let uses = uses(devices)?;
    if uses.is_empty() {
        return Ok(());
    }
    Err(ControlError::refused(format!("will not {deed}: {}", describe(&uses)))
        .hint("unmount and close it first; --force does it all the same, and whoever uses it gets I/O errors"))
}
