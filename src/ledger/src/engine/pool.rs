//! A few reading connections, used from blocking threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{OpenError, Unavailable};
use crate::store::StoreError;
use crate::store::sqlite::{self, SqliteReads};

/// Most reads at a time.
const READERS: usize = 4;

/// Reading connections that are not in use.
pub(super) struct Pool {
    database: PathBuf,
    idle: Arc<Mutex<Vec<SqliteReads>>>,
    turns: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn open(database: &Path) -> Result<Self, OpenError> {
        let first = sqlite::open_reads(database)?;
        Ok(Self {
            database: database.to_owned(),
            idle: Arc::new(Mutex::new(vec![first])),
            turns: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Closes the connections that are not in use.
    pub(super) fn rest(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Reads, on a thread where blocking is allowed. A failed read is logged and says that the ledger is not available;
    /// its connection is not used again.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut SqliteReads) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(Unavailable::Closing);
        };
        let idle = Arc::clone(&self.idle);
        let database = self.database.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reads = match waiting {
                Some(reads) => reads,
                None => {
                    sqlite::open_reads(&database).map_err(|error| StoreError(error.to_string()))?
                }
            };
            let found = read(&mut reads)?;
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(reads);
            Ok::<T, StoreError>(found)
        });
        match reading.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::error!(why = %error, "a read failed");
                Err(Unavailable::Failed)
            }
            Err(_) => Err(Unavailable::Failed),
        }
    }
}
