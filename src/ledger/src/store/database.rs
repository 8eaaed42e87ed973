//! Which store a database URL names: the one place where that is decided.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Reads, Store, postgres, sqlite};
use crate::engine::OpenError;

/// Where a ledger keeps everything.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, or one that speaks its protocol.
    Postgres(Box<postgres::Address>),
}

/// A database URL that cannot be used. One clear line; never holds the URL, since that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Neither SQLite nor PostgreSQL.
    #[error("the database URL must be sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Scheme,
    /// A PostgreSQL URL that is not understood.
    #[error("the PostgreSQL URL cannot be used: {0}")]
    Postgres(&'static str),
}

/// What is to be done with a store, whichever it is.
pub trait WithStore {
    /// What comes of it.
    type Output;
    /// Does it.
    fn with<S: Store + 'static>(self, store: S) -> Self::Output;
}

impl Database {
    /// From a URL: `sqlite:PATH`, `sqlite://PATH`, `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let address = postgres::Address::parse(url).map_err(InvalidUrl::Postgres)?;
            return Ok(Self::Postgres(Box::new(address)));
        }
        let path = url.strip_prefix("sqlite:").ok_or(InvalidUrl::Scheme)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '\0']) || path.starts_with(':') {
            return Err(InvalidUrl::Scheme);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Opens it for a writer, making its tables if they are missing.
    ///
    /// # Errors
    /// [`OpenError`], one clear line.
    pub fn open<W: WithStore>(&self, with: W) -> Result<W::Output, OpenError> {
        Ok(match self {
            Self::Sqlite(path) => with.with(sqlite::open(path)?),
            Self::Postgres(address) => with.with(postgres::open(address)?),
        })
    }

    /// Copies it to a file while its ledger runs; see [`sqlite::copy`].
    ///
    /// # Errors
    /// [`OpenError`], one clear line.
    pub fn copy(&self, to: &Path) -> Result<sqlite::Copy, OpenError> {
        match self {
            Self::Sqlite(path) => sqlite::copy(path, to),
            Self::Postgres(address) => Err(OpenError::Unusable {
                path: address.to_string(),
                why: "back it up with PostgreSQL's own programs: pg_basebackup, or pg_dump"
                    .to_owned(),
            }),
        }
    }

    /// Opens it for reading only.
    ///
    /// # Errors
    /// [`OpenError`], one clear line.
    pub fn open_reads(&self) -> Result<Box<dyn Reads>, OpenError> {
        Ok(match self {
            Self::Sqlite(path) => Box::new(sqlite::open_reads(path)?),
            Self::Postgres(address) => Box::new(postgres::open_reads(address)?),
        })
    }
}

/// What a person may see: a path, or host and database. Never a password.
impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(formatter),
            Self::Postgres(address) => address.fmt(formatter),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Database({self})")
    }
}

impl From<PathBuf> for Database {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Self> for Database {
    fn from(database: &Self) -> Self {
        database.clone()
    }
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}
