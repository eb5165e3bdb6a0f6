//! Names that people give: of volumes, groups and bookmarks.
//!
//! Owns which names are allowed, and why one is not. Deliberately does not know which names are taken.

use crate::error::ControlError;
use std::fmt;

#[cfg(test)]
mod tests;

/// Longest name, in bytes (names are ASCII, so also in characters).
pub const NAME_BYTES_MAX: usize = 63;

/// How the bookmarks begin that a rollback makes by itself; nobody else may add one.
pub const ROLLBACK_PREFIX: &str = "before-rollback-";

/// What a name is for; words in messages only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A volume.
    Volume,
    /// A consistency group.
    Group,
    /// A bookmark.
    Bookmark,
    /// A splitter of a host that has several.
    Splitter,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volume => "volume",
            Self::Group => "group",
            Self::Bookmark => "bookmark",
            Self::Splitter => "splitter",
        })
    }
}

/// A name that is allowed: a letter, then letters, digits, `_`, `.` or `-`; at most [`NAME_BYTES_MAX`] bytes. It is
/// safe as a file name, in `GROUP@POINT`, in udev and in a shell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a name as given. The error is of kind `Usage` and says what is wrong with it.
    pub fn parse(named: Named, text: &str) -> Result<Self, ControlError> {
        let rule = format!("a {named} name starts with a letter, then letters, digits, '_', '.' or '-'");
        let wrong = |why: String| Err(ControlError::usage(why).hint(rule.clone()));
        let Some(first) = text.chars().next() else {
            return wrong(format!("the {named} name is empty"));
        };
        if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
            return wrong(format!("{text:?} cannot be a {named} name: {odd:?} is not allowed"));
        }
        if !first.is_ascii_alphabetic() {
            return wrong(format!("{text:?} cannot be a {named} name: it starts with {first:?}"));
        }
        if text.len() > NAME_BYTES_MAX {
            return wrong(format!("{text:?} cannot be a {named} name: {} bytes, at most {NAME_BYTES_MAX}", text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes the name of a bookmark that a person wants to add: [`ROLLBACK_PREFIX`] is reserved.
    pub fn parse_new_bookmark(text: &str) -> Result<Self, ControlError> {
        let name = Self::parse(Named::Bookmark, text)?;
        if text.starts_with(ROLLBACK_PREFIX) {
            return Err(ControlError::usage(format!(
                "{text:?} cannot be added: bookmark names that start with '{ROLLBACK_PREFIX}' are made by rollbacks"
            )));
        }
        Ok(name)
    }

    /// The bookmark that a rollback at this time (nanoseconds since 1970 UTC) makes by itself, to the millisecond:
    /// `before-rollback-20261122T100000.123Z`. Take a later millisecond when it is taken.
    pub fn before_rollback(now_ns: u64) -> Self {
        Self(format!("{ROLLBACK_PREFIX}{}", crate::time::compact(now_ns)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
