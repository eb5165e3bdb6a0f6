//! What the appliance remembers beside its journals: which groups there are, where their files lie, and what is kept of
//! each, and which image devices it has in the kernel.
//!
//! A redb file, `appliance/catalog.redb` in the state folder; each value is JSON, so that an older release names what
//! it does not know instead of misreading it. A change is durable when its function returns. Deliberately no judge of
//! membership: a journal's JOIN and LEAVE records are the truth, and `groups` repairs what a crash between the two
//! left here.

use std::path::{Path, PathBuf};

use record::ids::{GroupId, Incarnation, JournalId, VolumeId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::Policy;

#[cfg(test)]
mod tests;

const GROUPS: TableDefinition<&str, &[u8]> = TableDefinition::new("groups");
const IMAGES: TableDefinition<u32, &[u8]> = TableDefinition::new("image-devices");

/// A consistency group and its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// The group.
    #[serde(with = "text")]
    pub id: GroupId,
    /// Its name; unique among groups.
    pub name: String,
    /// Its journal.
    #[serde(with = "text")]
    pub journal_id: JournalId,
    /// Where the journal's folder is.
    pub journal: PathBuf,
    /// The folder of the group's own files.
    pub folder: PathBuf,
    /// Made by attaching a volume, not by `group create`.
    pub implicit: bool,
    /// Every incarnation whose content may still be needed, those that left included.
    pub members: Vec<MemberEntry>,
    /// What is kept; the usual in entries of a time when everything was.
    #[serde(default)]
    pub retention: Policy,
    /// Bookmarks that nobody may remove before a date; one that is over stays until its bookmark goes.
    #[serde(default)]
    pub holds: Vec<HoldEntry>,
}

/// A bookmark that nobody may remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldEntry {
    /// Its name.
    pub bookmark: String,
    /// Until when, in nanoseconds since 1970.
    pub until_ns: u64,
}

/// One incarnation of a volume in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// The volume.
    #[serde(with = "text")]
    pub volume: VolumeId,
    /// Its number in the group.
    #[serde(with = "number")]
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where its replica is.
    pub replica: PathBuf,
    /// What people call the splitter that serves it; empty in entries of a time when nobody asked.
    #[serde(default)]
    pub splitter: String,
    /// Whether the replica file was made here, and so may be deleted here.
    pub replica_made: bool,
    /// Whether attaching it made the group, so that undoing it unmakes the group.
    pub made_group: bool,
}

/// An image device of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// The process that served it.
    pub pid: u32,
    /// The group's name.
    pub group: String,
}

/// Why the catalog failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file or its database.
    #[error("catalog {path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        source: Box<redb::Error>,
    },
    /// Its folder.
    #[error("make the folder of the catalog {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is the matter.
        source: std::io::Error,
    },
    /// An entry that this release does not read.
    #[error("catalog {path}: entry {key} cannot be read by this release: {source}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry.
        key: String,
        /// What is the matter.
        source: serde_json::Error,
    },
}

/// The open catalog; redb keeps a second process out.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    path: PathBuf,
}

impl Catalog {
    /// Opens the catalog in this folder, making both when they are missing.
    pub fn open(folder: &Path) -> Result<Self, CatalogError> {
        std::fs::create_dir_all(folder).map_err(|source| CatalogError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join("catalog.redb");
        let wrong = |source: redb::Error| CatalogError::Database { path: path.clone(), source: Box::new(source) };
        let database = Database::create(&path).map_err(|e| wrong(e.into()))?;
        let write = database.begin_write().map_err(|e| wrong(e.into()))?;
        write.open_table(GROUPS).map_err(|e| wrong(e.into()))?;
        write.open_table(IMAGES).map_err(|e| wrong(e.into()))?;
        write.commit().map_err(|e| wrong(e.into()))?;
        Ok(Self { database, path })
    }

    /// All groups.
    pub fn groups(&self) -> Result<Vec<GroupEntry>, CatalogError> {
        let pairs = self.read(|read| {
            let table = read.open_table(GROUPS)?;
            let mut pairs = Vec::new();
            for item in table.iter()? {
                let (key, value) = item?;
                pairs.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(pairs)
        })?;
        pairs.into_iter().map(|(key, value)| self.parse(key, &value)).collect()
    }

    /// Adds or replaces a group.
    pub fn put_group(&self, group: &GroupEntry) -> Result<(), CatalogError> {
        let key = group.id.to_string();
        let value = self.format(&key, group)?;
        self.write(|write| {
            write.open_table(GROUPS)?.insert(key.as_str(), value.as_slice()).map(drop).map_err(Into::into)
        })
    }

    /// Forgets a group.
    pub fn remove_group(&self, id: GroupId) -> Result<(), CatalogError> {
        let key = id.to_string();
        self.write(|write| write.open_table(GROUPS)?.remove(key.as_str()).map(drop).map_err(Into::into))
    }

    /// The image devices that were not seen to go.
    pub fn devices(&self) -> Result<Vec<(u32, DeviceEntry)>, CatalogError> {
        let pairs = self.read(|read| {
            let table = read.open_table(IMAGES)?;
            let mut pairs = Vec::new();
            for item in table.iter()? {
                let (key, value) = item?;
                pairs.push((key.value(), value.value().to_vec()));
            }
            Ok(pairs)
        })?;
        pairs.into_iter().map(|(key, value)| Ok((key, self.parse(format!("image device {key}"), &value)?))).collect()
    }

    /// Remembers an image device, before it is made.
    pub fn put_device(&self, id: u32, device: &DeviceEntry) -> Result<(), CatalogError> {
        let value = self.format(&id.to_string(), device)?;
        self.write(|write| write.open_table(IMAGES)?.insert(id, value.as_slice()).map(drop).map_err(Into::into))
    }

    /// Forgets an image device that is gone.
    pub fn remove_device(&self, id: u32) -> Result<(), CatalogError> {
        self.write(|write| write.open_table(IMAGES)?.remove(id).map(drop).map_err(Into::into))
    }

    fn read<T>(&self, f: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, CatalogError> {
        let run = || {
            let read = self.database.begin_read()?;
            f(&read)
        };
        run().map_err(|e| self.wrong(e))
    }

    fn write(&self, f: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), CatalogError> {
        let run = || {
            let write = self.database.begin_write()?;
            f(&write)?;
            write.commit()?;
            Ok(())
        };
        run().map_err(|e| self.wrong(e))
    }

    fn wrong(&self, source: redb::Error) -> CatalogError {
        CatalogError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, key: String, value: &[u8]) -> Result<T, CatalogError> {
        serde_json::from_slice(value).map_err(|source| CatalogError::Entry { path: self.path.clone(), key, source })
    }

    fn format<T: Serialize>(&self, key: &str, value: &T) -> Result<Vec<u8>, CatalogError> {
        serde_json::to_vec(value).map_err(|source| CatalogError::Entry {
            path: self.path.clone(),
            key: key.to_owned(),
            source,
        })
    }
}

/// An id that is written as text.
trait Id: Sized + std::fmt::Display {
    fn of(text: &str) -> Option<Self>;
}

macro_rules! ids {
    ($($id:ty),*) => {$(
        impl Id for $id {
            fn of(text: &str) -> Option<Self> {
                Self::parse(text)
            }
        }
    )*};
}
ids!(GroupId, VolumeId, JournalId);

mod text {
    use super::{Deserialize, Deserializer, Id, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer, I: Id>(id: &I, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>, I: Id>(from: D) -> Result<I, D::Error> {
        let text = String::deserialize(from)?;
        I::of(&text).ok_or_else(|| D::Error::custom("not an id"))
    }
}

mod number {
    use super::{Deserialize, Deserializer, Incarnation, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(number: &Incarnation, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(number.get())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Incarnation, D::Error> {
        let number = u32::deserialize(from)?;
        if number == 0 { Err(super::no_incarnation()) } else { Ok(Incarnation::new(number)) }
    }
}

fn no_incarnation<E: serde::de::Error>() -> E {
    E::custom("incarnations begin at 1")
}
