//! A few reading connections, used from blocking threads.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{OpenError, Unavailable};
use crate::store::{Database, Fault, Reads, StoreError};

/// Most reads at a time.
const READERS: usize = 4;

/// Reading connections that are not in use.
pub(super) struct Pool {
    database: Database,
    idle: Arc<Mutex<Vec<Box<dyn Reads>>>>,
    turns: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn open(database: &Database) -> Result<Self, OpenError> {
        let first = database.open_reads()?;
        Ok(Self {
            database: database.clone(),
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
    /// its connection is not used again. One that fails on a connection that has waited for long is done again on a new one.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&mut dyn Reads) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(Unavailable::Closing);
        };
        let idle = Arc::clone(&self.idle);
        let database = self.database.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let open = || {
                database
                    .open_reads()
                    .map_err(|error| StoreError::new(error.to_string()))
            };
            let is_old = waiting.is_some();
            let mut reads = match waiting {
                Some(reads) => reads,
                None => open()?,
            };
            let found = match read(&mut *reads) {
                Err(error) if is_old && error.fault() == Fault::Transient => {
                    reads = open()?;
                    read(&mut *reads)?
                }
                found => found?,
            };
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
