//! What the splitter remembers between two lives: its volumes, its groups, how they stopped.
//!
//! Owns the database in the state folder (redb: atomic commits, alive, one file; `docs/decisions/0003-catalog.md`).
//! Values are JSON objects, so that a later release can add fields.

use crate::backing::Fingerprint;
use crate::policy::{Policy, Settings};
use record::ids::{GroupId, SplitterId};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

const VOLUMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("volumes");
const GROUPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("groups");
const SPLITTER: TableDefinition<'_, &str, u64> = TableDefinition::new("splitter");

/// A volume, as it is to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its group's id.
    pub group: String,
    /// Its number in the group's records.
    pub incarnation: u32,
    /// Its backing.
    pub backing: PathBuf,
    /// Its size in sectors.
    pub sectors: u64,
    /// Its logical block size in bytes.
    pub block_bytes: u32,
    /// The N of its device.
    pub dev_id: u32,
    /// Its hardware queues.
    pub queues: u16,
    /// The backing as the last clean stop left it; `None` while it is being served, and after an unclean stop.
    pub fingerprint: Option<Fingerprint>,
    /// Its device was stopped with nothing in flight, and has not been started since.
    #[serde(default)]
    pub at_rest: bool,
    /// It is being made or removed: a splitter that finds this at its start undoes the one and finishes the other.
    #[serde(default)]
    pub pending: Option<Pending>,
}

/// What a half-made volume has to be undone of, or a half-removed one finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The backing file was made for it.
    pub created: bool,
    /// It is being removed: its history stays.
    #[serde(default)]
    pub removing: bool,
}

/// How a group's stream ended at a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanStop {
    /// The session.
    pub session: u64,
    /// The number behind its last record.
    pub next: u64,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its journal's id.
    pub journal: String,
    /// Bytes of its outbox.
    pub outbox_bytes: u64,
    /// How it stopped, if cleanly.
    pub clean: Option<CleanStop>,
    /// The rollback that is being prepared or brought in: hosts wait.
    pub rollback: Option<u64>,
    /// Writes were not recorded when it stopped, and why: a resynchronisation is owed.
    #[serde(default)]
    pub marking: Option<String>,
    /// How its hosts are answered.
    #[serde(default)]
    pub policy: Policy,
    /// An operator has to look before it is resynchronised: a backing was touched, or is not there.
    #[serde(default)]
    pub look_first: bool,
    /// An operator paused its protection: writes only mark until it is resumed.
    #[serde(default)]
    pub paused: bool,
}

impl GroupRow {
    /// What an operator may set of it.
    pub fn settings(&self) -> Settings {
        Settings { policy: self.policy, outbox_bytes: self.outbox_bytes }
    }
}

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused.
    #[error("the splitter's catalog {0}: {1}")]
    Database(PathBuf, #[source] Box<redb::Error>),
    /// A row is not what this release writes.
    #[error("the splitter's catalog {0}: the row of {1} cannot be read: {2}")]
    Row(PathBuf, String, #[source] serde_json::Error),
    /// There is no such row.
    #[error("the splitter's catalog {0} has no {1}")]
    NoRow(PathBuf, String),
}

/// The catalog.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    database: Database,
}

impl Catalog {
    /// Opens the catalog in this folder, or makes it.
    pub fn open(folder: &Path) -> Result<Self, CatalogError> {
        let path = folder.join("catalog.redb");
        let database = Database::create(&path).map_err(|e| CatalogError::Database(path.clone(), Box::new(e.into())))?;
        let catalog = Self { path, database };
        catalog.commit(|transaction| {
            transaction.open_table(VOLUMES)?;
            transaction.open_table(GROUPS)?;
            transaction.open_table(SPLITTER)?;
            Ok(())
        })?;
        Ok(catalog)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn wrap<E: Into<redb::Error>>(&self, error: E) -> CatalogError {
        CatalogError::Database(self.path.clone(), Box::new(error.into()))
    }

    fn commit<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, CatalogError> {
        let transaction = self.database.begin_write().map_err(|e| self.wrap(e))?;
        let result = change(&transaction).map_err(|e| self.wrap(e))?;
        transaction.commit().map_err(|e| self.wrap(e))?;
        Ok(result)
    }

    fn rows<T: DeserializeOwned>(&self, table: TableDefinition<'_, &str, &[u8]>) -> Result<Vec<T>, CatalogError> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(table)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        read()
            .map_err(|e| self.wrap(e))?
            .into_iter()
            .map(|(key, bytes)| {
                serde_json::from_slice(&bytes).map_err(|e| CatalogError::Row(self.path.clone(), key, e))
            })
            .collect()
    }

    fn put(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        key: &str,
        row: &impl Serialize,
    ) -> Result<(), CatalogError> {
        let bytes = serde_json::to_vec(row).map_err(|e| CatalogError::Row(self.path.clone(), key.to_owned(), e))?;
        self.commit(|transaction| {
            transaction.open_table(table)?.insert(key, bytes.as_slice())?;
            Ok(())
        })
    }

    fn drop_row(&self, table: TableDefinition<'_, &str, &[u8]>, key: &str) -> Result<(), CatalogError> {
        self.commit(|transaction| {
            transaction.open_table(table)?.remove(key)?;
            Ok(())
        })
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeRow>, CatalogError> {
        self.rows(VOLUMES)
    }

    /// Stores a volume under its name.
    pub fn put_volume(&self, row: &VolumeRow) -> Result<(), CatalogError> {
        self.put(VOLUMES, &row.name, row)
    }

    /// Forgets a volume.
    pub fn remove_volume(&self, name: &str) -> Result<(), CatalogError> {
        self.drop_row(VOLUMES, name)
    }

    /// All groups.
    pub fn groups(&self) -> Result<Vec<GroupRow>, CatalogError> {
        self.rows(GROUPS)
    }

    /// Stores a group under its id.
    pub fn put_group(&self, row: &GroupRow) -> Result<(), CatalogError> {
        self.put(GROUPS, &row.id, row)
    }

    /// Forgets a group.
    pub fn remove_group(&self, id: GroupId) -> Result<(), CatalogError> {
        self.drop_row(GROUPS, &id.to_string())
    }

    /// A group's row.
    pub fn group(&self, id: GroupId) -> Result<GroupRow, CatalogError> {
        let id = id.to_string();
        let found = self.groups()?.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| CatalogError::NoRow(self.path.clone(), format!("group {id}")))
    }

    /// Changes a group's row.
    pub fn change_group(&self, id: GroupId, change: impl FnOnce(&mut GroupRow)) -> Result<(), CatalogError> {
        let mut row = self.group(id)?;
        change(&mut row);
        self.put_group(&row)
    }

    /// The splitter's id: made with the catalog, stored before it is used, the same for ever.
    pub fn splitter_id(&self) -> Result<SplitterId, CatalogError> {
        let (high, low) = self.commit(|transaction| {
            let mut table = transaction.open_table(SPLITTER)?;
            let stored = |key| Ok::<_, redb::Error>(table.get(key)?.map(|half| half.value()));
            if let (Some(high), Some(low)) = (stored("id-high")?, stored("id-low")?) {
                return Ok((high, low));
            }
            let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
            table.insert("id-high", high)?;
            table.insert("id-low", low)?;
            Ok((high, low))
        })?;
        Ok(SplitterId::from_bytes(uuid::Uuid::from_u64_pair(high, low).into_bytes()))
    }

    /// A number for this life of the splitter, higher than every one before, stored before it is used.
    pub fn next_life(&self) -> Result<u64, CatalogError> {
        self.commit(|transaction| {
            let mut table = transaction.open_table(SPLITTER)?;
            let next = table.get("life")?.map_or(0, |life| life.value()) + 1;
            table.insert("life", next)?;
            Ok(next)
        })
    }
}

#[cfg(test)]
mod tests;
